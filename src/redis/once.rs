//! Commands of a program that asks a few things and ends: no breaker, nobody in the background.

use super::rules::RedisRules;
use super::{FromRedisValue, Pipeline, fault};
use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, ProtocolVersion, RedisError};
use std::time::Duration;

/// How long an operator waits for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection of its own.
pub struct Asked(MultiplexedConnection);

/// Connects and logs in.
///
/// # Errors
/// Why that is not possible.
pub async fn ask(rules: &RedisRules) -> Result<Asked, String> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(rules.connect_timeout))
        .set_response_timeout(Some(PATIENCE));
    let told =
        |fault: RedisError| format!("redis {}: {}", rules.address(), fault::in_words(&fault));
    let client = rules.client(ProtocolVersion::RESP2).map_err(told)?;
    let connected = client.get_multiplexed_async_connection_with_config(&config);
    Ok(Asked(connected.await.map_err(told)?))
}

impl Asked {
    /// Commands in one go, and all of them or none if they are a transaction.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn all<T: FromRedisValue>(&mut self, commands: &Pipeline) -> Result<T, String> {
        let answer = commands.query_async(&mut self.0).await;
        answer.map_err(|fault| fault::in_words(&fault))
    }
}

//! The story: what the demo prints and `--check` plays, one file a subject.

mod identity;
mod limits;
mod operation;
mod resilience;
mod routing;

use super::stage::Addresses;
use super::step::Act;

/// All of it, in order: a step may build on what an earlier one of its act did.
pub fn story(at: &Addresses) -> Vec<Act> {
    vec![
        routing::paths(at),
        identity::tokens(at),
        identity::rights(at),
        identity::api_keys(at),
        routing::versions(at),
        routing::tenants(at),
        limits::rates(at),
        limits::sizes(at),
        resilience::slow(at),
        resilience::breaker(at),
        operation::tracing(at),
        operation::admin(at),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::script::Script;

    #[test]
    fn every_line_is_read_as_what_it_was_printed_from() {
        for act in story(&Addresses::fixed()) {
            assert!(!act.steps.is_empty(), "{}", act.title);
            for step in act.steps {
                let line = step.script.to_string();
                assert_eq!(Script::read(&line).as_ref(), Ok(&step.script), "{line}");
            }
        }
    }
}

//! The service manager's side of a gateway: what it is told, through an upgrade and while nothing goes on.

use super::process::{Folder, patience};
use super::upgrade::{Deployed, signal};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// What a service manager is told: who serves, who is the main process, and that all is well.
#[test]
fn the_service_manager_is_told_who_serves_and_that_all_is_well() {
    let folder = Folder::new();
    let socket = UnixDatagram::bind(folder.path("notify")).expect("binds");
    socket
        .set_read_timeout(Some(patience()))
        .expect("a time limit");
    let told = || {
        let mut text = [0; 200];
        let n = socket.recv(&mut text).expect("a message");
        String::from_utf8_lossy(&text[..n]).into_owned()
    };
    let path = folder.text("notify");
    let env = [("NOTIFY_SOCKET", &*path), ("WATCHDOG_USEC", "500000")];
    let mut gateway = Deployed::start_in(folder, "127.0.0.1:1", "", &env);
    assert_eq!(told(), "READY=1\nSTATUS=serving");
    for _ in 0..3 {
        assert_eq!(told(), "WATCHDOG=1");
    }
    let new = gateway.upgrade();
    let mut all = Vec::new();
    while !all.contains(&"READY=1\nSTATUS=serving".to_owned()) {
        all.push(told());
    }
    all.retain(|text| text != "WATCHDOG=1");
    let main = format!("MAINPID={new}");
    assert_eq!(all, [&main, "READY=1\nSTATUS=serving"], "in this order");
    assert_eq!(gateway.running.end(), Some(0));
    while told() != "WATCHDOG=1" {}
    // A process that does nothing says nothing.
    signal("STOP", new);
    socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .expect("a time limit");
    let mut text = [0; 200];
    while socket.recv(&mut text).is_ok() {}
    signal("CONT", new);
    socket
        .set_read_timeout(Some(patience()))
        .expect("a time limit");
    assert_eq!(told(), "WATCHDOG=1");
    gateway.end();
}

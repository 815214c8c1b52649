//! `tollgate keys` on files: what is made opens a route, and what is shown never is a key.

use super::process::{Folder, Running, Service, answer, call, config, content, failed, status};
use super::{ANY_PORT, NOBODY};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tollgate::base::secret::sha256;

/// What is said of a file that was changed.
const RELOADS: &str =
    "a running gateway goes by it once it reloads (`tollgate reload`, SIGHUP, or `watch: true`)\n";

/// The key that a call printed, in this form and once.
#[track_caller]
fn key(stdout: &str) -> &str {
    assert_eq!(stdout.matches("tg_").count(), 1, "shown once: {stdout}");
    let first = stdout.lines().next().expect("a line");
    let key = first.strip_prefix("key (shown once): ").expect(first);
    assert!(key.starts_with("tg_") && key.len() == 60, "{key}");
    key
}

fn hash(key: &str) -> String {
    let digits = sha256(key.as_bytes()).map(|byte| format!("{byte:02x}"));
    format!("    hash: sha256:{}\n", digits.concat())
}

#[test]
fn a_new_key_is_printed_with_its_entry() {
    let made = call(&["keys", "new", "--client", "acme"]);
    assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""));
    let key = key(&made.stdout);
    let entry = made
        .stdout
        .split_once("\n\nkeys:\n  - id: ")
        .expect("an entry")
        .1;
    let (id, rest) = entry.split_once('\n').expect("an id");
    assert!(key.starts_with(&format!("tg_{id}_")), "{key} {id}");
    assert_eq!(rest, hash(key) + "    client: \"acme\"\n\n");
    for (args, says) in [
        (
            &["--client", "a", "--expires", "soon"][..],
            "--expires: found \"soon\", want a UTC time such as 2027-01-31T00:00:00Z\n",
        ),
        (
            &["--client", " "],
            "--client: found an empty name, want the client's name\n",
        ),
    ] {
        let args = [&["keys", "new"], args].concat();
        assert_eq!(call(&args), failed(64, says), "{args:?}");
    }
}

#[test]
fn a_key_that_was_made_opens_a_route() {
    let folder = Folder::new();
    let (file, path) = (folder.text("keys.yaml"), folder.path("keys.yaml"));
    let new = ["keys", "new", "--file", &file, "--client"];
    let more = ["acme", "--tier", "gold", "--scope", "a", "--role", "b"];
    let until = ["--expires", "2999-01-31T00:00:00Z"];
    let first = call(&[&new[..], &more, &until].concat());
    assert_eq!((first.code, first.stderr.as_str()), (Some(0), RELOADS));
    let second = call(&[&new[..], &["other"]].concat());
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (text, keys) = (content(&path), [key(&first.stdout), key(&second.stdout)]);
    assert_eq!(first.stdout, format!("key (shown once): {}\n", keys[0]));
    assert!(!text.contains("tg_"), "{text}");
    for key in keys {
        assert!(text.contains(&hash(key)), "{text}");
    }
    let entry = "    client: \"acme\"\n    tier: \"gold\"\n    scopes: [\"a\"]\n    roles: [\"b\"]\n    expires: \"2999-01-31T00:00:00Z\"\n";
    assert!(text.contains(entry), "{text}");
    let service = Service::open();
    let more = "log: { access: off }\nidentity: { api_keys: [{ name: ours, file: keys.yaml }] }";
    let guarded = "auth: { any: [ours], scopes: [a], roles: [b] }";
    let yaml = config(ANY_PORT, &service.address(), more).replace("auth: none", guarded);
    let gateway = Running::start(&folder.write("gateway.yaml", &yaml));
    let field = |key: &str| format!("X-API-Key: {key}\r\n");
    let client = gateway.send("/", &field(keys[0]));
    answer(service.request());
    assert_eq!(status(client), "200");
    assert_eq!(gateway.status("/", &field(keys[1])), "403");
    assert_eq!(gateway.status("/", &field("tg_made_up")), "401");
}

#[test]
fn keys_of_a_file_are_shown_rotated_and_taken_back() {
    let folder = Folder::new();
    let path = folder.write("keys.yaml", "# ours\nkeys:\n");
    let in_file = |args: &[&str]| call(&[&["keys"], args, &["--file", &path]].concat());
    let new = "new --client acme --scope a --rate-limit 1000/hr";
    let new: Vec<&str> = new.split(' ').collect();
    fs::remove_file(&path).expect("gone");
    let first = in_file(&new);
    let first = key(&first.stdout);
    let id = &first[3..13];
    let listed = in_file(&["list"]);
    let digits = hash(first);
    let begin = &digits[digits.len() - 65..][..8];
    let want = format!(
        "ID          CLIENT  TIER  SCOPES  LIMIT    EXPIRES  STATE  HASH\n\
         {id}  acme    -     a       1000/1h  -        live   {begin}\n"
    );
    assert_eq!((listed.code, listed.stdout), (Some(0), want));
    let rotated = in_file(&["rotate", id, "--grace", "1d"]);
    assert_eq!((rotated.code, rotated.stderr.as_str()), (Some(0), RELOADS));
    let second = rotated.stdout.lines().next().expect("a line");
    let second = second.strip_prefix("key (shown once): ").expect("a key");
    let ends = rotated.stdout.lines().nth(1).expect("a line");
    assert!(ends.starts_with(&format!("{id} ends at 2")), "{ends}");
    // The config says where the file is.
    let more = "identity: { api_keys: [{ name: ours, file: keys.yaml }] }";
    let yaml = config(ANY_PORT, NOBODY, more).replace("auth: none", "auth: { any: [ours] }");
    let yaml = folder.write("gateway.yaml", &yaml);
    let listed = call(&["keys", "list", "--json", "-c", &yaml, "--list", "ours"]);
    let all: serde_json::Value = serde_json::from_str(&listed.stdout).expect("JSON");
    let all = all.as_array().expect("an array");
    assert_eq!(all.len(), 2);
    assert!(all[0]["expires"].is_string() && all[0]["state"] == "live");
    assert_eq!(all[1]["id"], second[3..13]);
    assert!(all[1]["expires"].is_null() && all[1]["rate_limit"] == "1000/1h");
    let revoked = in_file(&["revoke", id]);
    assert_eq!(revoked.stdout, format!("revoked: {id} of acme\n"));
    assert_eq!(revoked.stderr, RELOADS);
    assert_eq!(in_file(&["list"]).stdout.lines().count(), 2);
    assert_eq!(
        in_file(&["revoke", id]),
        failed(1, &format!("no key has this id (found `{id}`)\n"))
    );
    let nowhere =
        "found neither --file nor --config, want --file and the key file, or --config and --list\n";
    assert_eq!(call(&["keys", "list"]), failed(64, nowhere));
    let unknown = call(&["keys", "list", "-c", &yaml, "--list", "theirs"]);
    // One of the keys has a rate, and no limit looks at it.
    let file = folder.text("keys.yaml");
    let why = format!(
        "warning: {file}:2:9: keys[0].id: has a `rate_limit` that no limit looks at (found no limit with \
         `own_rate`, want one on the routes that take the key)\n\
         --list: no list is called so (found `theirs`, want ours)\n"
    );
    assert_eq!(unknown, failed(64, &why));
}

#[test]
fn a_key_file_that_cannot_be_added_to_is_left_alone() {
    let folder = Folder::new();
    let cannot = "the list in it cannot be added to: write it as `keys:` and one `- id: …` a key, \
                  or leave out --file and add the entry by hand";
    let path = folder.write("flow.yaml", "keys: [] # none\n");
    let new = |path: &str| call(&["keys", "new", "--client", "a", "--file", path]);
    assert_eq!(new(&path), failed(1, &format!("{path}: {cannot}\n")));
    assert_eq!(content(&folder.path("flow.yaml")), "keys: [] # none\n");
    let lost = folder.text("no/keys.yaml");
    let why = "No such file or directory (os error 2)";
    assert_eq!(new(&lost), failed(1, &format!("{lost}: {why}\n")));
    let dir = folder.text("");
    let why = "Is a directory (os error 21)";
    assert_eq!(new(&dir), failed(1, &format!("{dir}: {why}\n")));
}

//! Endpoints from OpenAPI files, and what a credential can reach, against the real daemon.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Instant;

use keyward::route::{JudgedPath, Method, Router, Template};
use keyward_proto::query::{Asker, Reason, Target};
use serde_json::{Value, json};
use support::Home;

const TICKETS: &str = "
openapi: 3.1.0
info: {title: Tickets, version: '2'}
servers: [{url: 'https://example.com/api/v2'}]
security: [{key: []}, {session: []}]
paths:
  /tickets:
    get: {responses: {'200': {description: all}}}
    post: {}
  /tickets/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: integer}}]
    get: {}
    put: {}
    delete: {}
  /tickets/{id}/messages:
    get: {responses: {'200': {content: {application/json: {schema: {type: array}}}}}}
  /me: {get: {}}
  /status: {get: {security: []}}
  /files/{path}:
    get:
      parameters: [{name: path, in: path, required: true, x-keyward-multi-segment: true}]
      x-keyward-tags: files.content.get
      x-keyward-modes: [key]
";

const KEY: &str = "AAAAAAAA";

fn world() -> Value {
    json!({
        "agents": [{"id": 1, "name": "Admin", "permissions": "*"},
                   {"id": 4, "name": "Matthew", "permissions": "tickets.*, -*.delete"},
                   {"id": 5, "name": "Off", "permissions": "*", "enabled": false}],
        "keys": [{"id": 1, "code": KEY, "agent": 1},
                 {"id": 2, "code": KEY, "superuser": true, "default_agent": 1},
                 {"id": 3, "code": KEY, "superuser": true, "tags": "*.list, me.*"},
                 {"id": 6, "code": KEY, "agent": 4, "allow_ip": ["10.0.0.0/8"]},
                 {"id": 7, "code": KEY, "agent": 1, "enabled": false},
                 {"id": 8, "code": KEY, "agent": 1, "revoked": true},
                 {"id": 9, "code": KEY, "agent": 1, "expires_at": 1000},
                 {"id": 10, "code": KEY, "agent": 1, "not_before": 9_000_000_000_u64},
                 {"id": 11, "code": KEY, "agent": 5}],
        "tokens": [{"id": 18, "code": KEY, "agent": 1}],
        "sessions": [{"id": 7, "code": KEY, "agent": 4, "tags": "*, -tickets.messages.*"}],
    })
}

fn write(home: &Home, name: &str, text: &str) -> String {
    let path = home.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn stdout(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

/// Every endpoint as `METHOD path tags modes`.
fn endpoints(home: &Home) -> Vec<String> {
    lines(&home.json(&["endpoint", "list"]))
}

fn lines(list: &Value) -> Vec<String> {
    let words = |value: &Value| {
        let words: Vec<_> = value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        words.join(",")
    };
    let line = |e: &Value| {
        let (method, path) = (e["method"].as_str().unwrap(), e["path"].as_str().unwrap());
        format!("{method} {path} {} {}", words(&e["tags"]), words(&e["modes"]))
    };
    list.as_array().unwrap().iter().map(line).collect()
}

fn counts(report: &Value) -> [usize; 5] {
    ["added", "changed", "removed", "kept", "refused"].map(|list| report[list].as_array().unwrap().len())
}

#[test]
fn a_yaml_and_a_json_description_give_the_same_endpoints_and_verdicts() {
    let wanted = [
        "DELETE /api/v2/tickets/{id} tickets.tickets.delete key,session",
        "GET /api/v2/files/{path...} files.content.get key",
        "GET /api/v2/me me.me.get key,session",
        "GET /api/v2/status status.status.get public",
        "GET /api/v2/tickets tickets.tickets.list key,session",
        "GET /api/v2/tickets/{id} tickets.tickets.get key,session",
        "GET /api/v2/tickets/{id}/messages tickets.messages.list key,session",
        "POST /api/v2/tickets tickets.tickets.post key,session",
        "PUT /api/v2/tickets/{id} tickets.tickets.put key,session",
    ];
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    let yaml = write(&home, "tickets.yaml", TICKETS);
    assert_eq!(counts(&home.json(&["endpoint", "import", &yaml])), [9, 0, 0, 0, 0]);
    assert_eq!(endpoints(&home).into_iter().collect::<BTreeSet<_>>(), wanted.map(str::to_owned).into());

    let as_json = json_of_tickets().to_string();
    let again = home.json(&["endpoint", "import", &write(&home, "tickets.json", &as_json)]);
    assert_eq!(counts(&again), [0; 5], "{again}");
    for (name, text) in [("plain-yaml", TICKETS), ("plain-json", &as_json)] {
        let again = home.json(&["endpoint", "import", &write(&home, name, text)]);
        assert_eq!(counts(&again), [0; 5], "{again}");
        let piped = home.run_with_stdin(&["endpoint", "import", "-"], text.as_bytes());
        assert_eq!((piped.status.code(), stdout(&piped)), (Some(0), "done: 0 added, 0 fields changed, 0 removed\n"));
    }

    let mut client = home.query();
    for (credential, method, path, reason) in [
        ("key 2:AAAAAAAA", "GET", "/api/v2/files/a/b/c", Reason::Ok),
        ("session 7:AAAAAAAA", "GET", "/api/v2/files/a/b/c", Reason::ModeNotAllowed),
        ("token 18:AAAAAAAA", "GET", "/api/v2/tickets", Reason::ModeNotAllowed),
        ("session 7:AAAAAAAA", "GET", "/api/v2/tickets/9", Reason::Ok),
        ("session 7:AAAAAAAA", "DELETE", "/api/v2/tickets/9", Reason::AgentNotPermitted),
        ("", "GET", "/api/v2/status", Reason::Ok),
        ("key 2:AAAAAAAA", "GET", "/tickets", Reason::NoRoute),
    ] {
        let asker = Asker { credential: Some(credential.as_bytes()), ..Asker::default() };
        let target = Target::Endpoint { method: method.as_bytes(), path: path.as_bytes() };
        let verdict = client.check(asker, target).unwrap();
        assert_eq!(Reason::from_number(verdict.reason), Some(reason), "{credential} {method} {path}");
    }
}

/// [`TICKETS`] again, written as JSON.
fn json_of_tickets() -> Value {
    let id = json!([{"name": "id", "in": "path", "required": true, "schema": {"type": "integer"}}]);
    let array = json!({"200": {"content": {"application/json": {"schema": {"type": "array"}}}}});
    let path = json!([{"name": "path", "in": "path", "required": true, "x-keyward-multi-segment": true}]);
    json!({
        "openapi": "3.0.3",
        "info": {"title": "Tickets", "version": "2"},
        "servers": [{"url": "https://example.com/api/v2"}],
        "security": [{"key": []}, {"session": []}],
        "paths": {
            "/tickets": {"get": {"responses": {"200": {"description": "all"}}}, "post": {}},
            "/tickets/{id}": {"parameters": id, "get": {}, "put": {}, "delete": {}},
            "/tickets/{id}/messages": {"get": {"responses": array}},
            "/me": {"get": {}},
            "/status": {"get": {"security": []}},
            "/files/{path}": {"get": {
                "parameters": path, "x-keyward-tags": "files.content.get", "x-keyward-modes": ["key"]}},
        },
    })
}

#[test]
fn a_dry_run_prints_what_would_come_and_changes_nothing() {
    let home = Home::new();
    let _daemon = home.start();
    let file = write(&home, "tickets.yaml", TICKETS);
    let output = home.run(&["endpoint", "import", &file, "--dry-run"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rows: Vec<Vec<&str>> = stdout(&output).lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["METHOD", "PATH", "TAGS", "MODES"]);
    assert_eq!(rows[1], ["added", "GET", "/api/v2/tickets", "tickets.tickets.list", "key,", "session"]);
    assert_eq!(
        rows.last().unwrap().join(" "),
        "dry run, nothing was changed: it would be 9 added, 0 fields changed, 0 removed"
    );
    assert_eq!(rows.len(), 11);
    let report = home.json(&["endpoint", "import", &file, "--dry-run"]);
    assert_eq!((counts(&report), &report["dry_run"]), ([9, 0, 0, 0, 0], &json!(true)));
    assert_eq!(endpoints(&home), Vec::<String>::new());
}

#[test]
fn a_second_import_shows_the_difference_and_keeps_what_was_made_by_hand() {
    let home = Home::new();
    let _daemon = home.start();
    let file = |text: &str| write(&home, "api.yaml", text);
    home.json(&["endpoint", "import", &file(TICKETS)]);
    home.apply(&json!({"endpoints": [
        {"method": "GET", "path": "/api/v2/tickets", "tags": ["by.hand"], "modes": ["token"]},
        {"method": "GET", "path": "/api/v2/files/{path...}", "tags": ["by.hand"], "modes": ["token"]},
        {"method": "GET", "path": "/made/by/hand", "tags": ["by.hand"]}]}));
    let before = endpoints(&home);

    let next =
        TICKETS.replace("  /me: {get: {}}\n", "  /you: {get: {}}\n").replace("/tickets/{id}:", "/tickets/{ticket}:");
    let dry = home.run(&["endpoint", "import", &file(&next), "--dry-run"]);
    for line in [
        "kept     GET     /api/v2/tickets ",
        "changed  GET     /api/v2/files/{path...} ",
        "changed  GET     /api/v2/tickets/{ticket} ",
        "added    GET     /api/v2/you ",
        "         GET     /api/v2/status ",
        "= endpoint GET /api/v2/tickets: tags: by.hand is kept, not tickets.tickets.list",
        "= endpoint GET /api/v2/tickets: modes: token is kept, not key, session",
    ] {
        assert!(stdout(&dry).lines().any(|l| l.starts_with(line)), "{line:?} in\n{}", stdout(&dry));
    }
    assert_eq!(endpoints(&home), before);

    let report = home.json(&["endpoint", "import", &file(&next)]);
    assert_eq!(report["added"], json!([{"kind": "endpoint", "id": "GET /api/v2/you"}]));
    assert_eq!(
        report["kept"],
        json!([
            {"method": "GET", "path": "/api/v2/tickets", "field": "tags", "value": ["by.hand"], "derived": ["tickets.tickets.list"]},
            {"method": "GET", "path": "/api/v2/tickets", "field": "modes", "value": ["token"], "derived": ["key", "session"]}])
    );
    let changed: BTreeSet<String> =
        report["changed"].as_array().unwrap().iter().map(|c| format!("{} {}", c["id"], c["field"])).collect();
    let wanted = [
        "\"GET /api/v2/files/{path...}\" \"tags\"",
        "\"GET /api/v2/files/{path...}\" \"modes\"",
        "\"GET /api/v2/tickets/{ticket}\" \"path\"",
        "\"PUT /api/v2/tickets/{ticket}\" \"path\"",
        "\"DELETE /api/v2/tickets/{ticket}\" \"path\"",
    ];
    assert_eq!(changed, wanted.map(str::to_owned).into(), "{report}");
    assert_eq!(report["removed"], json!([]));

    let after: BTreeSet<String> = endpoints(&home).into_iter().collect();
    for line in [
        "GET /api/v2/tickets by.hand token",
        "GET /made/by/hand by.hand key,token,session",
        "GET /api/v2/files/{path...} files.content.get key",
        "GET /api/v2/me me.me.get key,session",
        "GET /api/v2/you you.you.get key,session",
    ] {
        assert!(after.contains(line), "{line} in {after:?}");
    }
    assert_eq!(counts(&home.json(&["endpoint", "import", &file(&next)])), [0, 0, 0, 2, 0]);
}

#[test]
fn refused_operations_stop_the_import_unless_they_are_skipped() {
    let home = Home::new();
    let _daemon = home.start();
    let text = format!(
        "{TICKETS}  /compare/{{base}}...{{head}}: {{get: {{}}}}\n  /x: {{get: {{x-keyward-tags: Not.A.Tag}}}}\n"
    );
    let file = write(&home, "api.yaml", &text);
    let output = home.run(&["endpoint", "import", &file]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""));
    for part in [
        "2 operations",
        "GET /compare/{base}...{head}: `{base}...{head}` has two parameters",
        "GET /x: x-keyward-tags",
        "--skip-refused",
    ] {
        assert!(stderr(&output).contains(part), "{part}: {}", stderr(&output));
    }
    let dry = home.run(&["endpoint", "import", &file, "--dry-run"]);
    assert_eq!(dry.status.code(), Some(2));
    assert!(stdout(&dry).contains("refused  GET     /compare/{base}...{head}"), "{}", stdout(&dry));
    assert_eq!(endpoints(&home), Vec::<String>::new());

    let report = home.json(&["endpoint", "import", &file, "--skip-refused"]);
    assert_eq!(counts(&report), [9, 0, 0, 0, 2]);
    assert_eq!((&report["refused"][1]["method"], &report["refused"][1]["path"]), (&json!("GET"), &json!("/x")));
    assert!(report["refused"][0]["why"].as_str().unwrap().contains("describe it as one, `{basehead}`"));
    assert_eq!(endpoints(&home).len(), 9);
}

#[test]
fn derived_tags_that_collide_are_reported_and_imported() {
    let home = Home::new();
    let _daemon = home.start();
    let text = "openapi: 3.0.0\npaths:\n  /t: {delete: {}}\n  /t/{id}: {delete: {}}\n";
    let report = home.json(&["endpoint", "import", &write(&home, "api.yaml", text)]);
    assert_eq!(report["collisions"], json!([{"tag": "t.t.delete", "operations": ["DELETE /t", "DELETE /t/{id}"]}]));
    assert_eq!(endpoints(&home).len(), 2);
}

#[test]
fn a_file_that_is_no_description_is_refused_and_a_missing_daemon_is_named() {
    let home = Home::new();
    let refused = |name: &str, text: &str, part: &str| {
        let output = home.run(&["endpoint", "import", &write(&home, name, text)]);
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(part), "{part}: {}", stderr(&output));
    };
    refused("a.json", "{\"swagger\": \"2.0\"}", "Swagger 2");
    refused("a.yaml", "openapi: 3.0.0\npaths:\n  /a: {}\n  /a: {}\n", "line 4, column 3: duplicate key");
    refused("a.json", "openapi: 3.0.0", "line 1");
    assert_eq!(home.run(&["endpoint", "import", "/nowhere"]).status.code(), Some(2));
    assert_eq!(home.run(&["endpoint", "import", &write(&home, "t.yaml", TICKETS)]).status.code(), Some(3));
}

#[test]
fn an_apply_file_may_be_yaml() {
    let home = Home::new();
    let _daemon = home.start();
    let text = "agents:\n  - {id: 1, name: Admin, permissions: '*'}\nkeys:\n  - id: 2\n    code: YWK2PGCS8CNW62SR8TBTBKWMY\n    agent: 1\n";
    let file = write(&home, "world.yml", text);
    assert_eq!(home.json(&["apply", &file])["added"].as_array().unwrap().len(), 2);
    let check = home.run(&["check", "--credential", "key 2:YWK2PGCS8CNW62SR8TBTBKWMY"]);
    assert_eq!(check.status.code(), Some(0), "{}", stderr(&check));
    let doubled = home.run(&["apply", &write(&home, "world.yaml", "agents: []\nagents: []\n")]);
    assert_eq!(doubled.status.code(), Some(2));
    assert!(stderr(&doubled).contains("line 2, column 1: duplicate key"), "{}", stderr(&doubled));
}

#[test]
fn what_a_credential_reaches_is_what_explain_allows_it() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    home.json(&["endpoint", "import", &write(&home, "tickets.yaml", TICKETS)]);
    let all = home.json(&["endpoint", "list"]);
    for (name, agent) in [
        ("key:1", None),
        ("key:2", None),
        ("key:2", Some("4")),
        ("key:3", Some("1")),
        ("key:3", Some("4")),
        ("key:6", None),
        ("key:6", Some("4")),
        ("token:18", None),
        ("session:7", None),
    ] {
        let agent: Vec<&str> = agent.into_iter().flat_map(|id| ["--agent", id]).collect();
        let reached = home.json(&[&["endpoint", "list", "--allowed-for", name], &agent[..]].concat());
        let (mode, id) = name.split_once(':').unwrap();
        let mode = format!("--{mode}");
        let allowed: Vec<Value> = all
            .as_array()
            .unwrap()
            .iter()
            .filter(|endpoint| {
                let (method, path) = (endpoint["method"].as_str().unwrap(), sample(endpoint["path"].as_str().unwrap()));
                let question = ["explain", &mode, id, "--ip", "10.0.0.1", method, &path];
                home.json(&[&question, &agent[..]].concat())["verdict"]["reason"] == "ok"
            })
            .cloned()
            .collect();
        assert_eq!(reached, Value::Array(allowed), "{name} {agent:?}");
        assert!(lines(&reached).iter().any(|line| line.ends_with(" public")), "{name} reaches public endpoints");
    }
}

#[test]
fn a_credential_that_is_not_in_force_reaches_nothing_and_is_told_why() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    for (words, why) in [
        (&["key:99"][..], "bad_credential: there is no key 99"),
        (&["key:7"], "disabled: it is disabled"),
        (&["key:8"], "revoked: it is revoked"),
        (&["key:9"], "expired: it is enabled, expires at 1000"),
        (&["key:10"], "not_yet_valid: it is enabled, valid from 9000000000"),
        (&["key:11"], "agent_disabled: agent 5 is disabled"),
        (&["key:3"], "agent_required: a superuser key without default agent"),
        (&["key:3", "--agent", "99"], "agent_unknown: there is no agent 99"),
        (&["key:1", "--agent", "4"], "agent_switch_forbidden: bound to agent 1; agent 4 is asked for"),
        (&["key:2", "--agent", "+4"], "bad_request: the agent header says \"+4\""),
        (&["token:1"], "bad_credential: there is no token 1"),
    ] {
        let output = home.run(&[&["endpoint", "list", "--allowed-for"], words].concat());
        assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""), "{words:?}");
        assert!(stderr(&output).contains(why), "{why}: {}", stderr(&output));
    }
    for words in [
        &["--allowed-for", "2"][..],
        &["--allowed-for", "key:02"],
        &["--allowed-for", "agent:2"],
        &["--agent", "4"],
        &["--tag", "-a.b"],
        &["--tag", "a*"],
    ] {
        assert_eq!(home.run(&[&["endpoint", "list"], words].concat()).status.code(), Some(2), "{words:?}");
    }
}

#[test]
fn a_listing_is_narrowed_by_a_pattern_of_tags() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    home.json(&["endpoint", "import", &write(&home, "tickets.yaml", TICKETS)]);
    for (words, wanted) in [
        (&["--tag", "*"][..], 9),
        (&["--tag", "tickets.*"], 6),
        (&["--tag", "*.list"], 2),
        (&["--tag", "me.me.get"], 1),
        (&["--tag", "none"], 0),
        (&["--tag", "*.delete", "--allowed-for", "key:2"], 1),
        (&["--tag", "*.delete", "--allowed-for", "key:2", "--agent", "4"], 0),
    ] {
        let list = home.json(&[&["endpoint", "list"], words].concat());
        assert_eq!(list.as_array().unwrap().len(), wanted, "{words:?}: {list}");
    }
}

#[test]
fn thousands_of_endpoints_are_reached_page_by_page_each_once_and_in_order() {
    let home = Home::new();
    let _daemon = home.start();
    home.apply(&world());
    let endpoints: Vec<Value> = (0..3_300)
        .map(|n| (format!("/n/{n}/{{id}}"), ["a", "b", "c"][n % 3]))
        .map(|(path, tag)| json!({"method": "GET", "path": path, "tags": [tag]}))
        .collect();
    home.apply(&json!({"endpoints": endpoints, "keys": [{"id": 2, "tags": "a, b"}]}));
    let reached = lines(&home.json(&["endpoint", "list", "--allowed-for", "key:2"]));
    let wanted: Vec<String> = self::endpoints(&home).into_iter().filter(|line| !line.contains(" c ")).collect();
    assert_eq!(wanted.len(), 2_200);
    assert_eq!(reached, wanted);
}

/// A path that the template takes.
fn sample(template: &str) -> String {
    let mut path = String::new();
    for (at, part) in template.split(['{', '}']).enumerate() {
        path.push_str(match (at % 2 == 1, part.ends_with("...")) {
            (true, true) => "some/deep/value",
            (true, false) => "x7",
            (false, _) => part,
        });
    }
    path
}

/// Fails unless the router leads each template's sample path to that template.
fn assert_each_routes_to_itself(endpoints: &[(String, String)]) {
    let parsed: Vec<(Method, Template)> = endpoints
        .iter()
        .map(|(method, path)| (Method::parse(method).unwrap(), Template::parse(path).unwrap()))
        .collect();
    let router = Router::build(parsed.iter().map(|(method, template)| (method, template)));
    for (index, (method, template)) in endpoints.iter().enumerate() {
        let path = sample(template);
        let found = router.find(method.as_bytes(), &JudgedPath::judge(path.as_bytes()).unwrap());
        assert_eq!(found, Some(u32::try_from(index).unwrap()), "{method} {path} of {template}");
    }
}

#[test]
fn thousands_of_templates_each_take_their_own_paths() {
    let mut endpoints = Vec::new();
    for n in 0..500 {
        // They overlap: which one takes a path is decided by the order of section 2.3.
        for middle in ["files", "{a}", "v{a}", "{a}.csv", "v{a}.csv"] {
            let before = format!("/area-{}/{middle}/item-{n}", n % 37);
            endpoints.push(("GET".to_owned(), format!("{before}/{{id}}")));
            endpoints.push(("GET".to_owned(), format!("{before}/pre-{{id}}.json")));
            endpoints.push(("POST".to_owned(), format!("{before}/{{rest...}}")));
        }
    }
    assert_each_routes_to_itself(&endpoints);
}

/// Past the test runner, which keeps what a test that passes prints.
fn say(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

/// The GitHub REST description out of the npm package; `None`, with the reason on stderr, where it can't be had.
fn github_description(folder: &Path) -> Option<PathBuf> {
    let member = "package/generated/api.github.com.json";
    let pack = Command::new("npm").args(["pack", "@octokit/openapi", "--silent"]).current_dir(folder).output();
    let skipped = match pack {
        Ok(output) if output.status.success() => {
            let archive = String::from_utf8(output.stdout).unwrap();
            let tar = Command::new("tar").args(["xzf", archive.trim(), member]).current_dir(folder).status();
            assert!(tar.unwrap().success(), "the package has {member}");
            return Some(folder.join(member));
        }
        Ok(output) => {
            format!("npm pack: {}", String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default())
        }
        Err(error) => format!("npm: {error}"),
    };
    say(&format!("SKIPPED: the GitHub REST description: it can't be fetched here: {skipped}\n"));
    None
}

#[test]
fn the_github_rest_description_imports_whole_and_every_path_routes_to_its_own_template() {
    let home = Home::new();
    let Some(file) = github_description(home.path()) else { return };
    let description: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let operations: usize = description["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|item| item.as_object().unwrap().keys().filter(|key| *key != "parameters").count())
        .sum();
    let file = file.to_str().unwrap();
    let _daemon = home.start();
    home.apply(&world());

    let started = Instant::now();
    let report = home.json(&["endpoint", "import", file, "--skip-refused"]);
    let took = started.elapsed();
    let [added, changed, removed, kept, refused] = counts(&report);
    assert_eq!((added + refused, changed, removed, kept), (operations, 0, 0, 0), "every operation is accounted for");
    let mut told = format!(
        "GitHub REST description: {operations} operations on {} paths, {added} endpoints, {refused} refused, imported in {took:?}; \
         {} tags shared by several resources\n",
        description["paths"].as_object().unwrap().len(),
        report["collisions"].as_array().unwrap().len(),
    );
    for refused in report["refused"].as_array().unwrap() {
        told.push_str(&format!("refused: {} {}: {}\n", refused["method"], refused["path"], refused["why"]));
        assert!(refused["why"].as_str().unwrap().contains("two parameters"), "{refused}");
    }
    say(&told);
    assert!(operations > 1_000 && refused < 10);
    assert_eq!(counts(&home.json(&["endpoint", "import", file, "--skip-refused"])), [0, 0, 0, 0, refused]);

    // JSON is YAML too: the other reader must find the same in it.
    let as_yaml = home.path().join("github.yaml");
    std::fs::rename(file, &as_yaml).unwrap();
    let again = home.json(&["endpoint", "import", as_yaml.to_str().unwrap(), "--skip-refused"]);
    assert_eq!(counts(&again), [0, 0, 0, 0, refused]);

    let list = home.json(&["endpoint", "list"]);
    let all: Vec<(String, String)> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["method"].as_str().unwrap().to_owned(), e["path"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(all.len(), added);
    assert_each_routes_to_itself(&all);
    let mut client = home.query();
    let asker = Asker { credential: Some(b"key 1:AAAAAAAA"), ..Asker::default() };
    for (method, template) in &all {
        let path = sample(template);
        let target = Target::Endpoint { method: method.as_bytes(), path: path.as_bytes() };
        let verdict = client.check(asker, target).unwrap();
        assert_eq!(verdict.route.map(|route| route.template).as_ref(), Some(template), "{method} {path}");
    }
    assert_eq!(lines(&home.json(&["endpoint", "list", "--allowed-for", "key:1"])).len(), added);
}

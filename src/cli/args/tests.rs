//! What can be said on the command line, and what is wrong usage.

use clap::CommandFactory;

use super::*;

fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("keyward").chain(words.iter().copied()))
}

#[test]
fn the_definitions_hold_together() {
    Cli::command().debug_assert();
}

#[test]
fn what_the_contract_writes_is_accepted() {
    for words in [
        &["serve", "--config", "f", "--data", "d", "--runtime", "r"][..],
        &["quickstart"],
        &["agent", "add", "Ann", "--permissions", "*", "--id", "4", "--attribute", "a=b", "--attribute", "c=-d"],
        &["agent", "add", "Ann", "--permissions", "-*.delete, *"],
        &["agent", "set", "4", "--name", "-x", "--permissions", "-a, *", "--attribute", "none"],
        &["agent", "enable", "4"],
        &["agent", "disable", "4"],
        &["agent", "remove", "4"],
        &["agent", "set", "4", "--permissions", "-a, *", "--dry-run"],
        &["agent", "disable", "--dry-run", "4"],
        &["key", "add", "sample", "--agent", "4"],
        &["key", "add", "sample", "--superuser", "--default-agent", "1"],
        &["key", "add", "--agent", "4", "sample", "--tags", "-*.delete, *", "--id", "7", "--code-stdin"],
        &["key", "add", "s", "--agent", "4", "--expires", "+30d", "--not-before", "2030-01-01T00:00:00Z"],
        &["key", "add", "s", "--agent", "4", "--allow-ip", "10.0.0.0/8", "--allow-ip", "::1"],
        &["key", "set", "4", "--label", "-x", "--default-agent", "none", "--expires", "never"],
        &["key", "set", "4", "--not-before", "never", "--allow-ip", "any"],
        &["key", "set", "4", "--tags", "a", "--dry-run"],
        &["key", "revoke", "4", "--dry-run"],
        &["key", "list", "--json"],
        &["key", "list", "--unused-for", "90d", "--expiring-in", "14d"],
        &["token", "list", "--expiring-in", "14d"],
        &["session", "list", "--unused-for", "1h"],
        &["key", "rotate", "2"],
        &["key", "rotate", "2", "--grace", "1h", "--code-stdin"],
        &["key", "rotate", "2", "--now", "--code-stdin"],
        &["token", "rotate", "2", "--drop-old"],
        &["key", "add", "s", "--agent", "4", "--rate", "100/s"],
        &["key", "set", "4", "--rate", "none"],
        &["token", "issue", "ci", "--agent", "1", "--rate", "1000/h"],
        &["session", "open", "--agent", "1", "--ttl", "8h", "--rate", "60/m"],
        &["--json", "key", "show", "4"],
        &["key", "--runtime", "r", "--json", "revoke", "4"],
        &["token", "issue", "ci", "--agent", "1", "--app", "3", "--ttl", "30d", "--tags", "-a,*"],
        &["session", "open", "--agent", "1", "--ttl", "8h"],
        &["session", "close", "1"],
        &["endpoint", "add", "GET", "/a/{id}", "--tags", "a.b,c", "--modes", "key,token"],
        &["endpoint", "show", "GET", "/a"],
        &["endpoint", "remove", "GET", "/a"],
        &["check"],
        &["check", "--credential", "-", "GET", "/a"],
        &["check", "--credential", "key 2:AAAAAAAA", "--agent", "-5", "--ip", "-", "--tag", "a", "--tag", "b"],
        &["check", "--tag", "a", "b"],
        &["check", "--agent", "", "--ip="],
        &["explain", "--key", "2", "--agent", "x", "GET", "/a"],
        &["apply", "-", "--prune", "--dry-run"],
        &["status"],
        &["bench", "load", "--keys", "10", "--agents", "2", "--endpoints", "8", "--sets", "3", "--world", "f"],
        &["bench", "--world", "f"],
        &["bench", "--world", "f", "--connections", "8", "--depth", "16", "--seconds", "0.5", "--warm-up", "2s"],
        &["bench", "--world", "f", "--rate", "1e5", "--zipf", "0.99", "--mix", "10,0,90,0", "--pin", "1"],
        &["--json", "bench", "--pin-server", "0", "--world", "f"],
        &["config", "check", "--config", "f"],
        &["completions", "bash"],
        &["man", "d"],
    ] {
        assert!(parse(words).is_ok(), "{words:?}: {}", parse(words).err().map(|e| e.to_string()).unwrap_or_default());
    }
}

#[test]
fn wrong_usage_is_exit_status_2() {
    for words in [
        &[][..],
        &["serf"],
        &["key"],
        &["key", "add", "sample"],
        &["key", "add", "--agent", "4"],
        &["key", "add", "s", "--agent", "4", "--superuser"],
        &["key", "add", "s", "--agent", "4", "--default-agent", "1"],
        &["key", "add", "s", "--agent", "0"],
        &["key", "add", "s", "--agent", "+4"],
        &["key", "add", "s", "--agent", "04"],
        &["key", "add", "s", "--agent", "9007199254740992"],
        &["key", "add", "s", "--agent", "4", "--expires", "soon"],
        &["key", "set", "4", "--agent", "4", "--superuser"],
        &["key", "show", "x"],
        &["key", "list", "--unused-for", "90"],
        &["agent", "list", "--unused-for", "90d"],
        &["key", "rotate"],
        &["key", "rotate", "2", "--grace", "1h", "--now"],
        &["key", "rotate", "2", "--grace", "1h", "--drop-old"],
        &["key", "rotate", "2", "--now", "--drop-old"],
        &["key", "rotate", "2", "--code-stdin", "--drop-old"],
        &["key", "rotate", "2", "--grace", "soon"],
        &["agent", "add", "Ann"],
        &["token", "issue", "x"],
        &["token", "issue", "x", "--agent", "1", "--ttl", "8"],
        &["session", "open", "--agent", "1"],
        &["endpoint", "add", "GET", "/a"],
        &["endpoint", "show", "GET"],
        &["tags", "test", "*"],
        &["check", "GET"],
        &["check", "GET", "/a", "--tag", "a"],
        &["check", "--tag"],
        &["check", "--tag", "-a"],
        &["explain", "GET", "/a"],
        &["explain", "--key", "1", "--token", "1", "GET", "/a"],
        &["apply"],
        &["completions", "cmd"],
        &["bench"],
        &["bench", "load", "--keys", "10"],
        &["bench", "--world", "f", "load", "--keys", "10", "--world", "f"],
        &["bench", "--world", "f", "--connections", "0"],
        &["bench", "--world", "f", "--depth", "4097"],
        &["bench", "--world", "f", "--seconds", "0"],
        &["bench", "--world", "f", "--rate", "NaN"],
        &["bench", "--world", "f", "--zipf", "-1"],
        &["bench", "--world", "f", "--mix", "90,5,5"],
    ] {
        assert_eq!(parse(words).map(|_| ()).map_err(|e| e.exit_code()), Err(2), "{words:?}");
    }
}

#[test]
fn global_options_are_accepted_behind_a_set_that_begins_with_a_hyphen() {
    for words in [
        &["tags", "test", "-a,*", "a.b", "c", "--json"][..],
        &["tags", "test", "-a,*", "--json", "a.b", "c"],
        &["tags", "test", "--json", "-a,*", "a.b", "c"],
        &["tags", "--json", "test", "-a,*", "a.b", "c"],
        &["tags", "test", "-j.delete,*", "a.b", "c", "--json"],
        &["tags", "test", "--json", "-*.delete, *", "a.b", "c"],
    ] {
        let cli = parse(words).unwrap_or_else(|e| panic!("{words:?}: {e}"));
        let Command::Tags(TagsCommand::Test(test)) = cli.command else { panic!("{words:?}") };
        assert!(cli.json && test.set.starts_with('-'), "{words:?}");
        assert_eq!(test.tags, ["a.b", "c"]);
    }
}

#[test]
fn tags_to_ask_for_follow_one_option_or_have_one_each() {
    for words in [
        &["check", "--tag", "a", "b", "--json"][..],
        &["check", "--tag", "a", "--tag", "b", "--json"],
        &["check", "--tag", "a", "--json", "--tag", "b"],
        &["check", "--json", "--tag", "a", "b"],
    ] {
        let cli = parse(words).unwrap_or_else(|e| panic!("{words:?}: {e}"));
        let Command::Check(check) = cli.command else { panic!("{words:?}") };
        assert!(cli.json && check.method.is_none(), "{words:?}");
        assert_eq!(check.tags, ["a", "b"], "{words:?}");
    }
}

#[test]
fn wrong_usage_never_repeats_a_credential() {
    const CODE: &str = "YWK2PGCS8CNW62SR8TBTBKWMY";
    let credential = format!("Key 2:{CODE}");
    let glued = format!("--credentials={credential}");
    for words in [
        &["keyward", "check", "GET", "/a", &credential][..],
        &["keyward", "check", &credential],
        &["keyward", "check", "--credentials", &credential],
        &["keyward", "check", &glued],
        &["keyward", &credential],
        &["keyward", "key", "show", &credential],
        &["keyward", "key", "set", "4", "--expires", &credential],
    ] {
        let error = crate::cli::parse(words.iter().map(OsString::from)).err().map(|e| e.to_string());
        assert!(!error.expect("it is wrong usage").contains(CODE), "{words:?}");
    }
}

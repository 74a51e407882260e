//! The PHP-FPM variant of `examples/nginx.conf`, with a real PHP-FPM.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::rig::{Proxy, Rig, installed, run};
use crate::support::http::{free_port, get};
use crate::support::{Home, wait_until};
use crate::{FORGED, KEY_2};

/// `php-fpm` carries its version in its name.
fn php_fpm() -> Option<PathBuf> {
    let versioned = std::fs::read_dir("/usr/sbin").ok()?.filter_map(|entry| entry.ok()?.path().into());
    let found = versioned.into_iter().find(|path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("php-fpm"))
    });
    found.or_else(|| installed("php-fpm"))
}

/// The shipped configuration with the commented location in the place of the other.
fn with_php(config: &str) -> String {
    let plain = config.find("        location / {").unwrap();
    let note = config.find("        # The same for PHP-FPM").unwrap();
    let begin = config.find("        # location / {").unwrap();
    let end = begin + config[begin..].find("        # }\n").unwrap() + "        # }\n".len();
    let uncommented = config[begin..end].replace("        # ", "        ");
    assert!(note < begin);
    [&config[..plain], &uncommented, &config[end..]].concat()
}

fn start_fpm(program: &Path, folder: &Path) -> Proxy {
    let socket = folder.join("fpm.sock");
    let config = format!(
        "[global]\nerror_log = {0}/fpm.log\ndaemonize = no\n[www]\n{1}listen = {0}/fpm.sock\npm = static\npm.max_children = 2\n",
        folder.display(),
        if nix::unistd::Uid::effective().is_root() { "user = root\ngroup = root\n" } else { "" },
    );
    std::fs::write(folder.join("fpm.conf"), config).unwrap();
    let mut command = Command::new(program);
    command.args(["--nodaemonize", "--allow-to-run-as-root", "--fpm-config"]).arg(folder.join("fpm.conf"));
    let fpm =
        Proxy::of(command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap());
    wait_until("php-fpm listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    fpm
}

#[test]
fn a_php_application_never_sees_a_forged_identity() {
    let (Some(nginx), Some(fpm)) = (installed("nginx"), php_fpm()) else { return };
    let home = Home::new();
    let rig = Rig::start(&home);
    let (port, folder) = (free_port(), home.path().join("php"));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("index.php"), "<?php echo json_encode($_SERVER);").unwrap();
    let _fpm = start_fpm(&fpm, &folder);
    let config = with_php(&rig.nginx_config(&folder, port))
        .replace("/run/php/php-fpm.sock", folder.join("fpm.sock").to_str().unwrap())
        .replace("include fastcgi_params;", "include /etc/nginx/fastcgi_params;")
        .replace("/srv/app/index.php", folder.join("index.php").to_str().unwrap());
    let proxy = run(rig.nginx(&nginx, &folder, &config), &folder, port);
    for (path, agent, mode) in [("/api/v2/me", "1", "key"), ("/api/v2/helpdesk/discover", "", "")] {
        for forged in FORGED.iter().map(std::slice::from_ref).chain([FORGED]) {
            let headers: Vec<&str> = [KEY_2].into_iter().chain(forged.iter().copied()).collect();
            let mut connection = proxy.place().connect();
            connection.send(get(path, &[&headers[..], &["Connection: close", "X-Plain: seen"]].concat()));
            while connection.fill() {}
            let text = connection.taken();
            let json = &text[text.find('{').expect("PHP answered")..=text.rfind('}').unwrap()];
            let server: Value = serde_json::from_str(json).unwrap();
            assert_eq!(server["HTTP_X_PLAIN"], "seen");
            assert_eq!(server["REQUEST_URI"], path);
            let identity = |name: &str| server[format!("HTTP_X_KEYWARD_{name}")].as_str().unwrap_or("").to_string();
            assert_eq!((identity("AGENT_ID"), identity("MODE")), (agent.into(), mode.into()), "{forged:?}");
            assert_eq!((identity("STATUS"), identity("REASON"), identity("APP_ID")), Default::default(), "{forged:?}");
            let all = server.as_object().unwrap().values().filter_map(Value::as_str);
            let seen: Vec<&str> = all.filter(|value| *value == "666" || *value == "Mallory").collect();
            assert!(seen.is_empty(), "{forged:?}: {server}");
            assert!(!json.contains("YWK2PGCS8CNW62SR8TBTBKWMY"), "PHP does not see the code");
        }
    }
}

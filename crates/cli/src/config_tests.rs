// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What is saved is found again, and what others wrote stays.

use super::*;
use std::ffi::OsStr;

fn volume(uuid: &str, name: &str) -> Volume {
    Volume {
        uuid: uuid.into(),
        name: name.into(),
        main: "/dev/a".into(),
        spare: format!("/dev/{uuid}").into(),
    }
}

fn config() -> (tempfile::TempDir, Config) {
    let base = tempfile::tempdir().unwrap();
    let config = Config::locate(Some(&base.path().join("deep/er/volumes.conf"))).unwrap();
    (base, config)
}

#[test]
fn no_file_names_no_volume() {
    let (_base, config) = config();
    assert_eq!(config.volumes().unwrap(), []);
}

#[test]
fn saves_and_replaces() {
    let (_base, config) = config();
    let mut one = volume("aa-1", "one");
    one.main = OsStr::from_bytes(b"/tmp/odd name\n[x]\n%41=\xff").into();
    config.save(&one).unwrap();
    config.save(&volume("bb-2", "two")).unwrap();
    assert_eq!(config.find("AA-1").unwrap(), Some(one.clone()));
    one.main = "/dev/c".into();
    config.save(&one).unwrap();
    assert_eq!(config.volumes().unwrap(), [one, volume("bb-2", "two")]);
}

#[test]
fn removes_one_and_keeps_the_rest() {
    let (_base, config) = config();
    assert!(!config.remove("aa-1").unwrap() && !config.path.exists());
    config.save(&volume("aa-1", "one")).unwrap();
    config.save(&volume("bb-2", "two")).unwrap();
    assert!(config.remove("AA-1").unwrap() && !config.remove("aa-1").unwrap());
    assert_eq!(config.volumes().unwrap(), [volume("bb-2", "two")]);
}

#[test]
fn keeps_what_it_does_not_know() {
    let (_base, config) = config();
    config.save(&volume("aa-1", "one")).unwrap();
    let path = config.path.clone();
    let text =
        "# mine\n[aa-1]\nname = old\ncolour = red\nmain = /x\nspare = /y\n\n[other]\nk = v\n";
    std::fs::write(&path, text).unwrap();
    config.save(&volume("aa-1", "one")).unwrap();
    let after = std::fs::read_to_string(&path).unwrap();
    let expected = concat!(
        "# mine\n[aa-1]\nname = one\nmain = /dev/a\nspare = /dev/aa-1\n",
        "colour = red\n\n[other]\nk = v\n"
    );
    assert_eq!(after, expected);
}

#[test]
fn bad_files_are_refused_or_left_out() {
    let (_base, config) = config();
    config.save(&volume("aa-1", "one")).unwrap();
    std::fs::write(&config.path, "[x]\nname = %4\nmain = a\nspare = b\n[y\nname = n\n").unwrap();
    assert_eq!(config.volumes().unwrap(), []);
    std::fs::write(&config.path, "#".repeat(1 << 21)).unwrap();
    assert!(config.volumes().is_err());
    std::fs::write(&config.path, b"\xff\xfe").unwrap();
    assert!(config.volumes().is_err());
}

#[test]
fn savers_at_once_lose_nothing() {
    let (_base, config) = config();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let config = &config;
            scope.spawn(move || {
                for n in 0..8 {
                    let id = format!("{thread}-{n}");
                    config.save(&volume(&id, &id)).unwrap();
                }
            });
        }
    });
    assert_eq!(config.volumes().unwrap().len(), 64);
}

#[test]
fn a_spare_made_anew_forgets_the_volume_it_had() {
    let (_base, config) = config();
    config.save(&volume("aa-1", "one")).unwrap();
    config.save(&volume("bb-2", "two")).unwrap();
    let again = Volume { spare: "/dev/aa-1".into(), ..volume("cc-3", "one") };
    config.save(&again).unwrap();
    assert_eq!(config.volumes().unwrap(), [volume("bb-2", "two"), again]);
}

#[test]
fn a_main_with_a_new_spare_forgets_the_volume_of_its_name() {
    let (_base, config) = config();
    config.save(&volume("aa-1", "one")).unwrap();
    config.save(&volume("bb-2", "two")).unwrap();
    config.save(&volume("cc-3", "one")).unwrap();
    assert_eq!(config.volumes().unwrap(), [volume("bb-2", "two"), volume("cc-3", "one")]);
}

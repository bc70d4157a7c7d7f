//! Mail: over TLS or not at all, and with no header that a device has chosen.

use crate::message;
use crate::smtp::{Kind, Server, start};
use holdfast_service_alerts::mail::Mail;
use holdfast_service_alerts::trust::Trust;
use holdfast_service_alerts::{SettingError, SinkError};
use holdfast_service_domain::settings::{MailSecurity, MailSettings};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn settings(port: u16, security: MailSecurity) -> MailSettings {
    MailSettings {
        server: "127.0.0.1".to_owned(),
        port,
        security,
        from: "holdfast@example.com".to_owned(),
        to: vec!["ops@example.com".to_owned(), "ines@example.com".to_owned()],
        credentials: None,
    }
}

fn mail(server: &Server, security: MailSecurity) -> Mail {
    let made = Mail::new(Path::new("/"), &settings(server.port, security), &server.trust);
    made.unwrap().with_deadline(Duration::from_secs(3))
}

/// The lines of the mail that came: those between `DATA` and the dot.
fn data(server: &Server) -> Vec<String> {
    let said = server.said();
    let plain = said.iter().map(|line| line.trim_start_matches("tls ").to_owned());
    let behind = plain.skip_while(|line| line != "DATA").skip(1);
    behind.take_while(|line| line != ".").collect()
}

#[tokio::test]
async fn a_mail_says_severity_rule_and_place() {
    let server = start(Kind::Plain).await;
    let alert = message("pump", "camera 2.1.0");
    mail(&server, MailSecurity::None).send("catalog.3", &alert).await.unwrap();
    let data = data(&server);
    let has = |line: &str| assert!(data.iter().any(|one| one == line), "{line}: {data:#?}");
    has("Subject: [holdfast] severity 1: outbreak, pump/production");
    has("Message-ID: <catalog.3@holdfast.invalid>");
    has("Auto-Submitted: auto-generated");
    has("About:   camera 2.1.0");
    has("What to do: Contain.");
    let receivers = server.said().into_iter().filter(|line| line.starts_with("RCPT TO")).count();
    assert_eq!(receivers, 2);
}

#[tokio::test]
async fn a_name_that_a_device_has_chosen_adds_no_header_receiver_or_command() {
    let attack =
        "camera\r\n.\r\nRCPT TO:<victim@example.com>\r\nBcc: victim@example.com\r\n\r\nbody";
    let plain = start(Kind::Plain).await;
    let harmless = message("pump", "camera");
    mail(&plain, MailSecurity::None).send("c.1", &harmless).await.unwrap();
    let server = start(Kind::Plain).await;
    let sent = mail(&server, MailSecurity::None).send("c.1", &message(attack, attack)).await;
    sent.unwrap();
    let headers = |server: &Server| -> Vec<String> {
        let lines = data(server).into_iter().take_while(|line| !line.is_empty());
        let names = lines.filter(|line| !line.starts_with([' ', '\t']));
        names.map(|line| line.split(':').next().unwrap().to_owned()).collect()
    };
    assert_eq!(headers(&server), headers(&plain), "the same headers as of a harmless one");
    let commands = |server: &Server| -> Vec<String> {
        let (said, data) = (server.said(), data(server));
        said.into_iter().filter(|line| !data.contains(line)).collect()
    };
    assert_eq!(commands(&server), commands(&plain));
}

#[tokio::test]
async fn a_mail_goes_over_tls_or_not_at_all() {
    for (kind, security) in
        [(Kind::Starttls, MailSecurity::Starttls), (Kind::Tls, MailSecurity::Tls)]
    {
        let server = start(kind).await;
        mail(&server, security).send("c.1", &message("pump", "camera")).await.unwrap();
        let said = server.said();
        let of = |verb: &str| said.iter().find(|line| line.contains(verb)).unwrap().clone();
        assert!(of("MAIL FROM").starts_with("tls "), "{kind:?}: {said:#?}");
        assert!(of("Subject").starts_with("tls "), "{kind:?}: {said:#?}");
    }
    // A server, or somebody on the way to it, that offers no TLS.
    let server = start(Kind::Plain).await;
    let failed =
        mail(&server, MailSecurity::Starttls).send("c.1", &message("pump", "camera")).await;
    assert!(matches!(failed, Err(SinkError::Smtp(_))), "{failed:?}");
    let said = server.said();
    assert!(
        !said.iter().any(|line| line.starts_with("MAIL") || line.starts_with("AUTH")),
        "{said:?}"
    );
    // One that nobody vouches for.
    let (server, other) = (start(Kind::Starttls).await, start(Kind::Starttls).await);
    let of_other = settings(server.port, MailSecurity::Starttls);
    let of_other = Mail::new(Path::new("/"), &of_other, &other.trust).unwrap();
    let failed = of_other.send("c.1", &message("pump", "camera")).await;
    assert!(matches!(failed, Err(SinkError::Smtp(_))), "{failed:?}");
    assert!(!server.said().iter().any(|line| line.contains("MAIL FROM")));
}

#[tokio::test]
async fn a_server_that_hangs_is_left() {
    let server = start(Kind::Silent).await;
    let mail = mail(&server, MailSecurity::None).with_deadline(Duration::from_millis(300));
    let failed = mail.send("c.1", &message("pump", "camera")).await;
    assert!(matches!(failed, Err(SinkError::Deadline(_))), "{failed:?}");
}

#[tokio::test]
async fn credentials_come_from_a_file_and_are_said_over_tls_alone() {
    let server = start(Kind::Starttls).await;
    let path = std::env::temp_dir().join(format!("holdfast-mail-{}", std::process::id()));
    std::fs::write(&path, "holdfast\npassword\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let with = |path: &Path| {
        let mut settings = settings(server.port, MailSecurity::Starttls);
        settings.credentials = Some(PathBuf::from(path));
        Mail::new(Path::new("/"), &settings, &server.trust)
    };
    with(&path).unwrap().send("c.1", &message("pump", "camera")).await.unwrap();
    let said = server.said();
    let auth = said.iter().find(|line| line.contains("AUTH PLAIN")).unwrap();
    assert!(auth.starts_with("tls AUTH PLAIN "), "{said:#?}");
    std::fs::write(&path, "holdfast\n").unwrap();
    assert!(matches!(with(&path), Err(SettingError::Rule { .. })));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(with(&path), Err(SettingError::OpenToOthers { .. })));
    let _ = std::fs::remove_file(&path);
    assert!(matches!(with(&path), Err(SettingError::File { .. })));
}

#[test]
fn settings_of_mail_are_refused_with_what_to_write() {
    let trust = Trust::new(Vec::new()).unwrap();
    let usual = || settings(25, MailSecurity::Tls);
    let of = |settings: MailSettings| {
        Mail::new(Path::new("/"), &settings, &trust).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(of(usual()), Ok(()), "the control");
    let unsecured = MailSettings { security: MailSecurity::None, ..usual() };
    assert_eq!(of(unsecured.clone()), Ok(()), "to this host itself");
    for server in ["mail.example.com", "10.0.0.5", "localhost"] {
        let refused = of(MailSettings { server: server.to_owned(), ..unsecured.clone() });
        assert!(refused.unwrap_err().contains("mail.security: must be starttls or tls"));
    }
    assert!(of(MailSettings { to: Vec::new(), ..usual() }).unwrap_err().contains("mail.to"));
    for from in ["", "ops", "a@b.c\r\nBcc: d@e.f", "a@b.c>, <d@e.f"] {
        let refused = of(MailSettings { from: from.to_owned(), ..usual() });
        assert!(refused.unwrap_err().contains("alerts.mail.from"), "{from}");
    }
}

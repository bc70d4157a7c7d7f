//! The console in Chromium: what people see, hear and reach, in light and dark, on wide and on narrow screens, whatever names say.

use crate::console::{crash_of, places};
use crate::console_fleet::{self, Names};
use crate::installation::Installation;
use crate::webdriver::Browser;
use holdfast_service_store::audit::{self, Entry};
use holdfast_service_store::catalog;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Directory for a picture of each page, for whoever wants to look.
const PICTURES: &str = "HOLDFAST_CONSOLE_PICTURES";
/// What is wrong with a page.
const WRONG: &str = include_str!("console_page.js");
/// A file of axe-core, for whoever wants its opinion as well: its licence is none of ours, so it is not in the tree.
const AXE: &str = "HOLDFAST_CONSOLE_AXE";
/// Widths in CSS pixels, and whether it is dark.
const LOOKS: [(u32, bool); 4] = [(1280, false), (1280, true), (375, false), (320, true)];

struct Seen<'a> {
    service: &'a Installation,
    browser: Browser,
}

impl<'a> Seen<'a> {
    fn new(service: &'a Installation) -> Self {
        Self { service, browser: Browser::start() }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.service.management.address)
    }

    fn go(&self, place: &str) {
        self.browser.go(&self.url(&format!("/console/{}/{place}", self.service.catalog)));
    }

    /// Signs in by the form, as a person does it.
    fn sign_in(&self) {
        self.browser.go(&self.url("/"));
        let token = json!(self.service.token);
        self.browser.run(&format!("document.getElementById('token').value = {token}; document.querySelector('form.sign-in button').click();"));
        let here = self.browser.run("return location.pathname");
        assert_eq!(
            here,
            format!("/console/{}/fleet", self.service.catalog),
            "{}",
            self.browser.run("return document.body.textContent")
        );
    }

    fn is_right(&self, place: &str) {
        for (width, is_dark) in LOOKS {
            self.browser.look(width, is_dark);
            let wrong = self.browser.run(WRONG);
            assert_eq!(
                wrong,
                json!([]),
                "{place} at {width}, {}: {wrong:#}",
                if is_dark { "dark" } else { "light" }
            );
            if let Some(axe) = std::env::var_os(AXE) {
                let axe = std::fs::read_to_string(axe).unwrap();
                let run = "const found = await axe.run(document, { resultTypes: ['violations'] });
                    return found.violations.map((one) => [one.id, one.help, one.nodes.map((node) => node.html.slice(0, 200))]);";
                let found = self.browser.run(&format!("{axe};\n{run}"));
                assert_eq!(found, json!([]), "{place} at {width}: {found:#}");
            }
            if let Some(directory) = std::env::var_os(PICTURES) {
                let scheme = if is_dark { "dark" } else { "light" };
                let place = place.replace(['/', '?', '='], "-");
                let place: String = place.chars().take(40).collect();
                let file = PathBuf::from(directory).join(format!("{place}-{width}-{scheme}.png"));
                std::fs::write(file, self.browser.picture()).unwrap();
            }
        }
        self.browser.look(1280, false);
    }
}

fn all_places(service: &Installation) -> Vec<String> {
    let crash = format!("crashes/{}", crash_of(service));
    places().into_iter().map(|(place, _)| place.replace("{crash}", &crash)).collect()
}

#[test]
fn each_page_can_be_read_heard_and_reached_on_every_screen() {
    let mut service = Installation::new();
    for role in ["reader", "operator", "auditor"] {
        service.done(
            "POST",
            "/tokens",
            &json!({"name": format!("{role}-2026"), "role": role, "days": 30}),
        );
    }
    console_fleet::fill(&mut service, &Names::ordinary());
    let seen = Seen::new(&service);
    seen.browser.go(&seen.url("/console/sign-in"));
    seen.is_right("sign-in");
    seen.sign_in();
    for place in all_places(&service) {
        seen.go(&place);
        seen.is_right(&place);
    }
    seen.go("devices/nothing");
    seen.is_right("failure");
    // The check sees what it is to see.
    seen.go("fleet");
    let spoiled = [
        "document.querySelector('.status').style.color = '#aaa'",
        "document.querySelector('h2').outerHTML = '<h4>x</h4>'",
        "document.querySelector('main').append(document.createElement('img'))",
        "document.querySelector('table caption').remove()",
        "document.querySelector('main').insertAdjacentHTML('beforeend', '<input><p id=open></p>')",
        "document.querySelector('h1').textContent = 'W'.repeat(400); document.querySelector('h1').className = ''",
        "window.ran = 1",
    ];
    for spoil in spoiled {
        // Trusted types keep even this test from making markup of texts, unless it says that it means to.
        let policy = "if (!window.trustedTypes.defaultPolicy) { try { window.trustedTypes.createPolicy('default', {createHTML: (text) => text}); } catch { } }";
        let run = seen
            .browser
            .run(&format!("{policy} try {{ {spoil} }} catch (error) {{ return String(error); }}"));
        if run.is_null() {
            assert_ne!(seen.browser.run(WRONG), json!([]), "{spoil}");
        } else {
            assert!(run.as_str().unwrap().contains("TrustedHTML"), "{spoil}: {run}");
        }
        seen.go("fleet");
    }
}

/// What somebody calls things who means harm.
fn hostile(number: u8) -> String {
    let texts = [
        "<script>window.ran=1</script>",
        "\"><x-injected onmouseover=window.ran=1>",
        "'/><iframe srcdoc=\"<script>parent.ran=1</script>\">",
        "\u{202e}gnp.elbmarg\u{2066}\u{200b}\u{0}\u{1b}[31m\r\nevent=audit_log_broken",
        "{{ constructor }}${window.ran=1}javascript:window.ran=1&lt;b&gt;",
    ];
    let text = texts[usize::from(number) % texts.len()];
    let long: String =
        std::iter::repeat_n('W', 256_usize.saturating_sub(text.chars().count())).collect();
    format!("{text}{long}")
}

#[test]
fn no_name_runs_overflows_or_turns_what_stands_beside_it() {
    let mut service = Installation::new();
    let names = Names {
        board: hostile(3),
        serial: hostile(0),
        function: hostile(1),
        caller: hostile(3),
        who: hostile(2),
        reason: hostile(4),
    };
    let without_nul = |text: String| text.replace('\0', "\u{7f}");
    let names =
        Names { board: without_nul(names.board), caller: without_nul(names.caller), ..names };
    console_fleet::fill(&mut service, &names);
    service.done("POST", "/threats/2/close", &json!({"reason": names.reason}));
    let replica = service.replica();
    let (now, catalog) = (service.now(), service.catalog);
    service.block_on(async {
        let store = replica.store.clone();
        let scope = store.scope_of_device(catalog).await.unwrap().unwrap();
        let written = store.write(move |connection| {
            Box::pin(async move {
                for number in 0..5 {
                    let name = without_nul(hostile(number));
                    catalog::put_product(connection, scope, name.clone(), now).await?;
                    let entry = Entry {
                        who: name.clone(),
                        verb: "device.claim",
                        object: name.clone(),
                        digest: [0; 32],
                        at: now,
                    };
                    audit::append(connection, scope, entry).await?;
                }
                Ok(())
            })
        });
        written.await.unwrap();
    });
    drop(replica);
    let seen = Seen::new(&service);
    seen.sign_in();
    let mut met = 0;
    let mut all = all_places(&service);
    all.extend(["threats/2", "threats?state=closed"].map(str::to_owned));
    for place in all {
        seen.go(&place);
        seen.is_right(&format!("hostile-{place}"));
        let text = seen.browser.run("return document.body.textContent");
        met += usize::from(text.as_str().unwrap().contains("WWWWWWWW"));
    }
    assert!(met >= 8, "{met} pages have shown such a name");
    // Whatever a query says is a text as well.
    let query =
        "devices?find=%22%3E%3Cx-injected%3E%3Cscript%3Ewindow.ran=1%3C/script%3E&group=%E2%80%AEx";
    seen.go(query);
    seen.is_right("hostile-query");
    let log = service.done("GET", "/audit?limit=1", &Value::Null);
    assert_eq!(log["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_script_makes_a_page_better_and_is_kept_by_the_policy() {
    let mut service = Installation::new();
    console_fleet::fill(&mut service, &Names::ordinary());
    let seen = Seen::new(&service);
    seen.sign_in();
    seen.go("devices");
    let rows =
        "return [...document.querySelectorAll('tbody tr')].filter((row) => !row.hidden).length";
    assert_eq!(seen.browser.run(rows), 100);
    let find = "const find = document.querySelector('.find input'); find.value = 'field-test'; find.dispatchEvent(new Event('input'));";
    seen.browser.run(find);
    let left = seen.browser.run(rows).as_u64().unwrap();
    assert!((1..100).contains(&left), "{left}");
    seen.go("fleet");
    assert_eq!(
        seen.browser
            .run("return [...document.querySelectorAll('button.copy')].some((one) => one.hidden)"),
        false
    );
    // Coming back to the page loads it again.
    seen.browser.run(
        "document.activeElement?.blur(); document.dispatchEvent(new Event('visibilitychange'));",
    );
    let fresh = "return document.getElementById('fresh').textContent";
    let began = std::time::Instant::now();
    while !seen.browser.run(fresh).as_str().unwrap().starts_with("Loaded at") {
        assert!(began.elapsed().as_secs() < 60, "{}", seen.browser.run(fresh));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(seen.browser.run("return document.querySelectorAll('h1').length"), 1);
    // What a text would need to do harm is refused by the browser.
    let script = "const script = document.createElement('script');
        try { script.setAttribute('src', '/console/assets/x.js'); return 'taken'; } catch (error) { return String(error); }";
    let refused = seen.browser.run(script);
    assert!(refused.as_str().unwrap().contains("TrustedScriptURL"), "{refused}");
    let image = "return await new Promise((done) => { const one = new Image(); one.onerror = () => done('refused'); one.onload = () => done('loaded'); one.src = 'data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7'; })";
    assert_eq!(seen.browser.run(image), "refused");
}

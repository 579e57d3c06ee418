//! `report.html` in a browser: nothing on its console, plots with their curves, choices that choose, and room for all of it on a
//! desk and on a phone, by day and by night. Needs Chromium.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Bench, left_out};

/// What the page is asked in the browser, itself in a frame as wide as the screen that it is tried on.
const QUESTIONS: &str = r#"
const page = document.querySelector("iframe");
page.addEventListener("load", () => {
  const [inner, view] = [page.contentDocument, page.contentWindow];
  const all = (what) => [...inner.querySelectorAll(what)];
  const shown = () => all(".plot").filter((plot) => !plot.hidden);
  const told = { errors: view.told, width: [inner.documentElement.scrollWidth, view.innerWidth] };
  told.ground = view.getComputedStyle(inner.body).backgroundColor;
  told.curves = all(".plot").map((plot) => plot.querySelectorAll(".line polyline").length);
  told.first = shown().map((plot) => plot.dataset.axis);
  const tokens = inner.querySelector("input[value=tokens]");
  tokens.click();
  told.chosen = shown().map((plot) => plot.dataset.axis);
  const svg = shown()[0].querySelector("svg");
  const box = svg.getBoundingClientRect();
  const point = () => svg.dispatchEvent(new view.PointerEvent("pointermove", { clientX: box.left + box.width * 0.6, clientY: box.top + box.height / 2, bubbles: true }));
  const tip = inner.querySelector(".tip");
  point();
  told.tip = tip.hidden ? null : tip.innerText;
  const arm = inner.querySelector("input[data-arm='1']");
  const seen = () => [...svg.querySelectorAll(".line[data-arm='1']")].filter((line) => view.getComputedStyle(line).display !== "none").length;
  told.lit = [seen()];
  arm.click();
  point();
  told.lit.push(seen());
  told.tip_without = tip.innerText;
  arm.click();
  told.lit.push(seen());
  const answer = inner.querySelector(".answer").getBoundingClientRect();
  told.answer_ends_at = answer.bottom;
  document.querySelector("pre").textContent = JSON.stringify(told);
});
"#;

/// Opens the page in a frame that wide, and answers the questions above.
fn asked(bench: &Bench, width: u32, dark: bool) -> Value {
    let report = std::fs::read_to_string(bench.path("out/report/report.html")).expect("a page");
    let listening = "<head><script>window.told = []; addEventListener('error', (e) => told.push(e.message)); \
                     console.error = console.warn = (...words) => told.push(words.join(' '));</script>";
    let report = report.replacen("<head>", listening, 1).replace('&', "&amp;").replace('"', "&quot;");
    let frame =
        format!("<iframe srcdoc=\"{report}\" style=\"width:{width}px;height:900px;border:0\"></iframe>");
    let name = format!("asked-{width}-{dark}.html");
    bench.write(
        &name,
        format!("<!doctype html><meta charset=utf-8><pre></pre>{frame}<script>{QUESTIONS}</script>"),
    );
    let dom = browser(&bench.path(&name), dark);
    let answer = dom.split("<pre>").nth(1).and_then(|rest| rest.split("</pre>").next()).unwrap_or_default();
    let answer = answer.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{width} {dark}: {error} in `{answer}`"))
}

/// The page's elements once its scripts have run.
fn browser(page: &Path, dark: bool) -> String {
    let mut command = Command::new("chromium");
    command.args([
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1600,1200",
        "--dump-dom",
    ]);
    command.arg(format!("--user-data-dir={}", page.with_extension("profile").display()));
    command.args([
        "--virtual-time-budget=5000",
        if dark {
            "--blink-settings=preferredColorScheme=0"
        } else {
            "--blink-settings=preferredColorScheme=1"
        },
    ]);
    let ran = command.arg(format!("file://{}", page.display())).output().expect("it was there a moment ago");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

#[test]
fn the_page_works_on_a_desk_and_on_a_phone_by_day_and_by_night() {
    let there = Command::new("chromium").arg("--version").output().is_ok_and(|ran| ran.status.success());
    if !there {
        left_out("chromium", "there is none to open the report in");
        return;
    }
    let bench = Bench::with(&[("seeds = [1, 2]", "seeds = [1, 2, 3]")]);
    bench.study().good();
    let mut grounds = Vec::new();
    for width in [1440, 390] {
        for dark in [false, true] {
            let told = asked(&bench, width, dark);
            let place = format!("{width} px, dark {dark}: {told:#}");
            assert_eq!(told["errors"], serde_json::json!([]), "{place}");
            let [content, room] = [0, 1].map(|at| told["width"][at].as_u64().expect("pixels"));
            assert!(content <= room, "it is wider than the screen. {place}");
            let curves = told["curves"].as_array().expect("plots");
            assert!(curves.len() == 3 && curves.iter().all(|curves| curves.as_u64() >= Some(2)), "{place}");
            assert_eq!(
                (&told["first"][0], &told["chosen"][0]),
                (&"flops".into(), &"tokens".into()),
                "{place}"
            );
            assert_eq!(told["lit"], serde_json::json!([1, 0, 1]), "an arm goes out and comes back. {place}");
            let tip = told["tip"].as_str().unwrap_or_default();
            assert!(tip.contains("whole") && tip.contains("stack"), "what is pointed at is told. {place}");
            assert!(!told["tip_without"].as_str().unwrap_or_default().contains("stack"), "{place}");
            // Above the fold: question and answer are seen without scrolling.
            assert!(told["answer_ends_at"].as_f64().expect("pixels") < 500.0, "{place}");
            grounds.push(told["ground"].clone());
        }
    }
    assert!(grounds[0] != grounds[1] && grounds[0] == grounds[2] && grounds[1] == grounds[3], "{grounds:?}");
}

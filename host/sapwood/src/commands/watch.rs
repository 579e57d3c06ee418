//! `sapwood watch`: a study at work, on the whole terminal. It only reads the study's files, so that training does not feel it.

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, Paragraph, Row, Table, TableState};
use study::{RunProgress, RunState, StudyProgress};
use trainer::ErrorClass;

use super::status::{summary, words};
use crate::Outcome;
use crate::args::WatchArgs;
use crate::failure::Failed;

pub(crate) fn watch(args: &WatchArgs) -> Outcome {
    // A folder that is no study's is told before the screen is taken.
    let first = study::progress(&args.folder)?;
    if !io::stdout().is_terminal() {
        let hint = "`sapwood status` tells the same once, as text or with --json";
        return Err(Failed::new(ErrorClass::Config, "watching needs a terminal", hint));
    }
    let mut terminal = ratatui::init();
    let ended = watching(&mut terminal, first, args);
    ratatui::restore();
    ended
}

fn watching(terminal: &mut ratatui::DefaultTerminal, first: StudyProgress, args: &WatchArgs) -> Outcome {
    let lost = |error: io::Error| Failed::new(ErrorClass::Resource, error, "look at the terminal");
    let (mut progress, mut chosen) = (first, TableState::default().with_selected(0));
    loop {
        terminal.draw(|frame| draw(frame, &progress, &mut chosen)).map_err(lost)?;
        if event::poll(Duration::from_secs(args.every)).map_err(lost)? {
            match asked(&event::read().map_err(lost)?) {
                Some(Asked::Leave) => return Ok(ExitCode::SUCCESS),
                Some(Asked::Up) => chosen.select_previous(),
                Some(Asked::Down) => chosen.select_next(),
                None => {}
            }
        } else {
            progress = study::progress(&args.folder)?;
        }
    }
}

/// What a key asks for.
enum Asked {
    Leave,
    Up,
    Down,
}

fn asked(event: &Event) -> Option<Asked> {
    let Event::Key(key) = event else { return None };
    if key.kind != KeyEventKind::Press {
        return None;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Asked::Leave),
        KeyCode::Char('q') | KeyCode::Esc => Some(Asked::Leave),
        KeyCode::Up | KeyCode::Char('k') => Some(Asked::Up),
        KeyCode::Down | KeyCode::Char('j') => Some(Asked::Down),
        _ => None,
    }
}

fn draw(frame: &mut Frame<'_>, progress: &StudyProgress, chosen: &mut TableState) {
    let heights = [
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(6),
        Constraint::Length(16),
        Constraint::Length(1),
    ];
    let [top, gauge, table, chart, bottom] = Layout::vertical(heights).areas(frame.area());
    frame.render_widget(Paragraph::new(summary(progress)), top);
    frame.render_widget(
        Gauge::default().ratio(progress.share().clamp(0.0, 1.0)).gauge_style(Color::Yellow),
        gauge,
    );
    frame.render_stateful_widget(runs(progress), table, chosen);
    if let Some(run) = chosen.selected().and_then(|at| progress.runs.get(at)) {
        draw_curve(frame, chart, progress, run);
    }
    frame.render_widget(Paragraph::new("up, down: another run    q: leave; the study goes on"), bottom);
}

fn runs(progress: &StudyProgress) -> Table<'_> {
    let row = |run: &RunProgress| {
        let colour = match run.state {
            RunState::Finished => Color::Green,
            RunState::Diverged | RunState::Failed(_) => Color::Red,
            RunState::Begun => Color::Yellow,
            RunState::NotBegun => Color::DarkGray,
        };
        let depth =
            if run.depth > 0 { format!("{} blocks, {}", run.depth, run.phase) } else { String::new() };
        Row::new([
            format!("{}/{}/seed-{}", run.arm, run.budget, run.seed),
            words(&run.state).to_owned(),
            format!("{:.0} %", 100.0 * run.share),
            run.loss_nats_per_token.map_or(String::new(), |loss| format!("{loss:.4}")),
            depth,
        ])
        .style(colour)
    };
    let widths = [
        Constraint::Min(24),
        Constraint::Length(10),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Min(16),
    ];
    Table::new(progress.runs.iter().map(row), widths)
        .header(Row::new(["run", "state", "done", "loss", "now"]).style(Modifier::BOLD))
        .row_highlight_style(Modifier::REVERSED)
        .block(Block::bordered())
}

/// The validation loss of a run, beside the baseline's of the same seed, from where the first of both has come down.
fn draw_curve(
    frame: &mut Frame<'_>,
    area: ratatui::layout::Rect,
    progress: &StudyProgress,
    run: &RunProgress,
) {
    let baseline =
        progress.runs.iter().find(|other| other.arm == progress.baseline && other.seed == run.seed);
    let points = |run: &RunProgress| -> Vec<(f64, f64)> {
        let trained = run.curve.iter().filter(|(step, loss)| *step > 0 && loss.is_finite());
        trained.map(|(step, loss)| (*step as f64, *loss)).collect()
    };
    let own = points(run);
    let whole = baseline.filter(|baseline| baseline.arm != run.arm).map(points).unwrap_or_default();
    let all = || own.iter().chain(&whole);
    let steps = all().map(|point| point.0).fold(1.0, f64::max);
    let low = all().map(|point| point.1).fold(f64::INFINITY, f64::min);
    let high = all().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    if !low.is_finite() {
        let words = Paragraph::new("no evaluation yet").block(Block::bordered());
        return frame.render_widget(words, area);
    }
    let line = |points, name: &str, colour| {
        let marker = Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line);
        marker.name(name.to_owned()).style(Style::new().fg(colour)).data(points)
    };
    let mut lines = vec![line(&own, &run.arm, Color::Yellow)];
    if !whole.is_empty() {
        lines.insert(0, line(&whole, &progress.baseline, Color::Gray));
    }
    let labels = |from: f64, to: f64, digits: usize| {
        [from, f64::midpoint(from, to), to].map(|at| format!("{at:.digits$}"))
    };
    let high = if high > low { high } else { low + 1e-3 };
    let chart = Chart::new(lines)
        .block(Block::bordered().title("validation loss, nats per token, by step"))
        .x_axis(Axis::default().bounds([0.0, steps]).labels(labels(0.0, steps, 0)))
        .y_axis(Axis::default().bounds([low, high]).labels(labels(low, high, 3)));
    frame.render_widget(chart, area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn run(arm: &str, state: RunState, share: f64) -> RunProgress {
        RunProgress {
            arm: arm.into(),
            budget: "tokens".into(),
            seed: 1,
            state,
            steps: (100.0 * share) as u64,
            share,
            loss_nats_per_token: (share > 0.0).then_some(3.0 - share),
            wall_seconds: 10.0 * share,
            depth: 4,
            phase: "stage2".into(),
            holder: None,
            curve: (0..=(10.0 * share) as u64).map(|i| (10 * i, 3.0 - 0.1 * i as f64)).collect(),
        }
    }

    /// The screen as text, that many columns wide.
    fn screen(progress: &StudyProgress, chosen: usize, columns: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, 34)).expect("no device is touched");
        let mut state = TableState::default().with_selected(chosen);
        terminal.draw(|frame| draw(frame, progress, &mut state)).expect("no device is touched");
        terminal.backend().to_string()
    }

    fn progress() -> StudyProgress {
        let runs = vec![
            run("whole", RunState::Finished, 1.0),
            run("grown", RunState::Begun, 0.4),
            run("late", RunState::Failed("the disk is full".into()), 0.2),
            run("next", RunState::NotBegun, 0.0),
        ];
        let (study, baseline) = ("made-up".into(), "whole".into());
        StudyProgress { study, baseline, runs, is_at_work: true, seconds_left: Some(16.0) }
    }

    #[test]
    fn the_screen_tells_every_run_and_draws_the_chosen_one_beside_the_baseline() {
        let seen = screen(&progress(), 1, 110);
        for words in [
            "made-up: 4 runs, 1 finished, 1 begun, 1 to come, 1 failed; 40 % done, at work, about 16 s left",
            "grown/tokens/seed-1",
            "4 blocks, stage2",
            "2.6000",
            "validation loss, nats per token, by step",
            "whole",
            "q: leave; the study goes on",
        ] {
            assert!(seen.contains(words), "`{words}` is missing\n{seen}");
        }
        let nothing = StudyProgress { runs: vec![run("next", RunState::NotBegun, 0.0)], ..progress() };
        assert!(screen(&nothing, 0, 110).contains("no evaluation yet"));
    }

    /// However small the window is made, and whatever is chosen in it.
    #[test]
    fn a_small_screen_is_no_error() {
        for columns in [1, 20, 60] {
            screen(&progress(), 9, columns);
        }
    }

    #[test]
    fn keys_move_and_leave() {
        use ratatui::crossterm::event::KeyEvent;
        let press = |code, modifiers| asked(&Event::Key(KeyEvent::new(code, modifiers)));
        assert!(matches!(press(KeyCode::Down, KeyModifiers::NONE), Some(Asked::Down)));
        assert!(matches!(press(KeyCode::Up, KeyModifiers::NONE), Some(Asked::Up)));
        for (code, modifiers) in [
            (KeyCode::Char('q'), KeyModifiers::NONE),
            (KeyCode::Esc, KeyModifiers::NONE),
            (KeyCode::Char('c'), KeyModifiers::CONTROL),
        ] {
            assert!(matches!(press(code, modifiers), Some(Asked::Leave)), "{code}");
        }
        assert!(press(KeyCode::Char('c'), KeyModifiers::NONE).is_none());
    }
}

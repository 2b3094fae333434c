//! The table that benchmarks end with: what was measured, the figure, its target, and whether that
//! was met.
// Each benchmark compiles this for itself and uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::process::ExitCode;

/// Prints a row as soon as it is known, since the next may take a minute.
pub struct Report {
    command: &'static str,
    missed: u32,
}

impl Report {
    /// Begins a table; `command` is what a reader types to get the same.
    pub fn new(command: &'static str) -> Self {
        println!("{:60} {:>12}  {:>12}", format!("`{command}`"), "figure", "target");
        Self { command, missed: 0 }
    }

    /// A figure without a target.
    pub fn plain(&self, what: &str, figure: f64, unit: &str) {
        println!("{what:60} {:>12}", with_unit(figure, unit));
    }

    /// The median of the ratios of pairs, which should not be above its target.
    pub fn pairs_at_most(&mut self, what: &str, ratios: Vec<f64>, target: f64) {
        let what = format!("{what} ({})", spread(&ratios));
        self.at_most(&what, median(ratios), target, "");
    }

    /// The median of the ratios of pairs, which should not be below its target.
    pub fn pairs_at_least(&mut self, what: &str, ratios: Vec<f64>, target: f64) {
        let what = format!("{what} ({})", spread(&ratios));
        self.at_least(&what, median(ratios), target, "");
    }

    /// The median of some runs' ratios, which should not be above its target. Thousandths are shown: they
    /// matter where 1 is the least that can be.
    pub fn runs_at_most(&mut self, what: &str, ratios: Vec<f64>, target: f64) {
        let (low, high) = ends(&ratios);
        let what = if ratios.len() > 1 { format!("{what} ({low:.3}-{high:.3})") } else { what.to_owned() };
        let figure = median(ratios);
        self.row(&what, &format!("{figure:.3}"), "<=", &format!("{target:.3}"), figure <= target);
    }

    /// A figure that should not be above its target.
    pub fn at_most(&mut self, what: &str, figure: f64, target: f64, unit: &str) {
        self.row(what, &with_unit(figure, unit), "<=", &with_unit(target, unit), figure <= target);
    }

    /// A figure that should not be below its target.
    pub fn at_least(&mut self, what: &str, figure: f64, target: f64, unit: &str) {
        self.row(what, &with_unit(figure, unit), ">=", &with_unit(target, unit), figure >= target);
    }

    /// A figure that should be no farther than `by` from its target.
    pub fn within(&mut self, what: &str, figure: f64, target: f64, by: f64) {
        let met = (figure - target).abs() <= by;
        self.row(what, &with_unit(figure, ""), &format!("+-{by}"), &with_unit(target, ""), met);
    }

    /// A line about what could not be measured, and why.
    pub fn skipped(&self, what: &str, why: &str) {
        println!("{what:60} skipped: {why}");
    }

    fn row(&mut self, what: &str, figure: &str, sign: &str, target: &str, met: bool) {
        let verdict = if met { "ok" } else { "MISSED" };
        println!("{what:60} {figure:>12}  {sign} {target:>9}  {verdict}");
        self.missed += u32::from(!met);
    }

    /// Ends the table; the exit code is 1 when a target was missed. `main` returns it, so that what
    /// was started and made is ended and removed first.
    pub fn end(self) -> ExitCode {
        if self.missed > 0 {
            println!("{}: {} missed", self.command, self.missed);
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

fn with_unit(figure: f64, unit: &str) -> String {
    let digits = if figure.abs() < 10.0 && figure.fract() != 0.0 { 2 } else { 0 };
    format!("{figure:.digits$} {unit}").trim_end().to_owned()
}

/// `7 pairs, 0.91-1.08`: how far apart the ratios of the pairs were, for whoever doubts the median.
fn spread(ratios: &[f64]) -> String {
    let (low, high) = ends(ratios);
    format!("{} pairs, {low:.2}-{high:.2}", ratios.len())
}

/// The lowest and the highest.
fn ends(figures: &[f64]) -> (f64, f64) {
    let low = figures.iter().copied().fold(f64::INFINITY, f64::min);
    (low, figures.iter().copied().fold(0.0, f64::max))
}

/// The middle of the figures (of an even number, the mean of both): one disturbed run moves it little.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let (low, high) = (figures[(figures.len() - 1) / 2], figures[figures.len() / 2]);
    (low + high) / 2.0
}

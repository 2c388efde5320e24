// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Figures with their samples: medians, spread, goals.

use serde_json::{Value, json};

/// One thing measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    pub name: String,
    pub unit: String,
    /// As `<= 5`; empty if there is none.
    pub goal: String,
    pub samples: Vec<f64>,
}

impl Figure {
    /// Reads a line `bench`, name, unit, goal, samples, with tabs between; other lines are none.
    pub fn of_line(line: &str) -> Option<Figure> {
        let mut parts = line.strip_prefix("bench\t")?.split('\t').map(str::to_owned);
        let (name, unit, goal) = (parts.next()?, parts.next()?, parts.next()?);
        let samples: Result<Vec<f64>, _> =
            parts.next()?.split_whitespace().map(str::parse).collect();
        let samples = samples.ok().filter(|samples| !samples.is_empty())?;
        Some(Figure { name, unit, goal, samples })
    }

    /// Whether the median meets the goal; `None` without a goal.
    pub fn met(&self) -> Option<bool> {
        let (sign, number) = self.goal.split_once(' ')?;
        let (value, goal) = (median(&self.samples), number.parse::<f64>().ok()?);
        match sign {
            "<" => Some(value < goal),
            "<=" => Some(value <= goal),
            "=" => Some(value == goal),
            ">=" => Some(value >= goal),
            _ => None,
        }
    }

    pub fn json(&self) -> Value {
        let Figure { name, unit, goal, samples } = self;
        json!({ "name": name, "unit": unit, "goal": goal, "samples": samples, "met": self.met() })
    }
}

/// The middle one, or the mean of the two in the middle; not a number if there are none.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[half],
        _ => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

/// The least and the greatest.
pub fn spread(samples: &[f64]) -> (f64, f64) {
    samples.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &sample| {
        (low.min(sample), high.max(sample))
    })
}

/// With three digits that say something.
pub fn short(value: f64) -> String {
    let digits = if value.abs() >= 100.0 || value.fract() == 0.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

/// `median (min..max)`, without the spread where there is one sample.
pub fn with_spread(samples: &[f64]) -> String {
    let (low, high) = spread(samples);
    match samples.len() {
        1 => short(median(samples)),
        _ => format!("{} ({}..{})", short(median(samples)), short(low), short(high)),
    }
}

/// A table in Markdown.
pub fn table(figures: &[Figure]) -> String {
    let mut text = String::from("\n| what | median (min..max) | goal | |\n|---|---|---|---|\n");
    for figure in figures {
        let met = match figure.met() {
            Some(true) => "met",
            Some(false) => "not met",
            None => "",
        };
        let value = with_spread(&figure.samples);
        let Figure { name, unit, goal, .. } = figure;
        text += &format!("| {name} | {value} {unit} | {goal} | {met} |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_line_and_judges_it() {
        let figure = Figure::of_line("bench\tresolve\tns\t<= 5\t4.5 4.0 9.0").unwrap();
        assert_eq!((figure.met(), median(&figure.samples)), (Some(true), 4.5));
        assert_eq!(spread(&figure.samples), (4.0, 9.0));
        let counted = Figure::of_line("bench\tflushes\t\t= 2\t3").unwrap();
        assert_eq!(counted.met(), Some(false));
        assert_eq!(Figure::of_line("bench\tfree\tns\t\t1").unwrap().met(), None);
        for other in ["running 1 test", "bench\ta\tns\t<= 5", "bench\ta\tns\t\t", "bench\ta\t\t\tx"]
        {
            assert_eq!(Figure::of_line(other), None, "{other}");
        }
        let text = table(&[figure, counted]);
        assert!(text.contains("| resolve | 4.50 (4..9) ns | <= 5 | met |"), "{text}");
        assert!(text.contains("| flushes | 3  | = 2 | not met |"), "{text}");
    }

    #[test]
    fn the_median_of_an_even_number_is_between() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}

//! Shapes and how SVG writes them.
use std::fmt::Write;

/// Where a text is held.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    /// At its left end.
    Start,
    /// In the middle.
    Middle,
    /// At its right end.
    End,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub struct Font {
    /// Pixels.
    pub size: f64,
    /// Fill colour.
    pub colour: &'static str,
    /// CSS weight; 400 is plain.
    pub weight: u16,
}

/// Mean width of a character in sizes of its font, plain and bold, where the font is a wide one.
const WIDTHS: [f64; 2] = [0.6, 0.68];
/// CSS weights from which a font is bold.
const BOLD: u16 = 600;
/// Lines that a name may take.
const LINES: usize = 3;

impl Font {
    /// Characters that surely fit into `width` pixels.
    pub fn fitting(&self, width: f64) -> usize {
        (width / (self.size * WIDTHS[usize::from(self.weight >= BOLD)])).floor().max(1.0) as usize
    }
}

/// Text, axis labels and other strong lines.
pub const INK: &str = "#222222";
/// Text that stands back.
pub const FAINT: &str = "#666666";
/// Lines behind the data.
pub const GRID: &str = "#E6E6E6";
/// Behind everything.
const PAPER: &str = "white";
/// Colours that people with any colour vision tell apart (Okabe & Ito 2008), their yellow, too faint on
/// white, left out.
pub const COLOURS: [&str; 7] = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];

/// A drawing in the making; lengths are pixels, y points down.
#[derive(Debug)]
pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

impl Svg {
    /// An empty drawing.
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// A straight line; `dash` as SVG has it, empty for none.
    pub fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], (colour, width): (&str, f64), dash: &str) {
        let dash = dashes(dash);
        self.push(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
             stroke-width=\"{width}\"{dash}/>"
        ));
    }

    /// A line through points.
    pub fn path(&mut self, points: &[[f64; 2]], (colour, width): (&str, f64), dash: &str) {
        let (points, dash) = (listed(points), dashes(dash));
        self.push(format_args!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" \
             stroke-linejoin=\"round\"{dash}/>"
        ));
    }

    /// A filled area.
    pub fn area(&mut self, points: &[[f64; 2]], colour: &str, opacity: f64) {
        let points = listed(points);
        self.push(format_args!(r#"<polygon points="{points}" fill="{colour}" fill-opacity="{opacity}"/>"#));
    }

    /// A disc with a white rim.
    pub fn disc(&mut self, [x, y]: [f64; 2], radius: f64, colour: &str) {
        self.push(format_args!(
            r#"<circle cx="{x:.1}" cy="{y:.1}" r="{radius}" fill="{colour}" stroke="white" stroke-width="1"/>"#
        ));
    }

    /// A filled outline with a white rim.
    pub fn outline(&mut self, points: &[[f64; 2]], colour: &str) {
        let points = listed(points);
        self.push(format_args!(
            r#"<polygon points="{points}" fill="{colour}" stroke="white" stroke-width="1" stroke-linejoin="round"/>"#
        ));
    }

    /// One line of text on its baseline.
    pub fn text(&mut self, at: [f64; 2], text: &str, font: Font, anchor: Anchor) {
        self.turned(at, text, font, anchor, "");
    }

    /// One line of text that reads upwards.
    pub fn upright(&mut self, at: [f64; 2], text: &str, font: Font) {
        let turn = format!(r#" transform="rotate(-90 {:.1} {:.1})""#, at[0], at[1]);
        self.turned(at, text, font, Anchor::Middle, &turn);
    }

    fn turned(&mut self, [x, y]: [f64; 2], text: &str, font: Font, anchor: Anchor, turn: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (Font { size, colour, weight }, text) = (font, escaped(text));
        self.push(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" font-weight=\"{weight}\" fill=\"{colour}\" \
             text-anchor=\"{anchor}\"{turn}>{text}</text>"
        ));
    }

    /// A filled rectangle.
    pub fn bar(&mut self, [x, y]: [f64; 2], [width, height]: [f64; 2], colour: &str, opacity: f64) {
        self.push(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\" \
             fill-opacity=\"{opacity}\"/>"
        ));
    }

    /// A see-through line through points, for what stands behind another line.
    pub fn trace(&mut self, points: &[[f64; 2]], colour: &str, opacity: f64) {
        let points = listed(points);
        self.push(format_args!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-opacity=\"{opacity}\" \
             stroke-width=\"1\" stroke-linejoin=\"round\"/>"
        ));
    }

    fn push(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }

    /// The file, on white: legible wherever it is shown.
    pub fn finish(self, title: &str) -> String {
        let Self { width, height, body } = self;
        let title = escaped(title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" \
             font-family=\"Inter, Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif\">\n\
             <title>{title}</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"{PAPER}\"/>\n{body}</svg>\n"
        )
    }

    /// A part of a page, as wide as its place and in the page's colours: `--ink`, `--faint`, `--grid`, `--paper`
    /// and `--c0` to `--c6`.
    pub fn inline(self, title: &str) -> String {
        let Self { width, height, mut body } = self;
        let named = [(INK, "ink"), (FAINT, "faint"), (GRID, "grid"), (PAPER, "paper")];
        let series = COLOURS.iter().enumerate().map(|(index, colour)| (*colour, format!("c{index}")));
        for (colour, name) in named.map(|(colour, name)| (colour, name.to_owned())).into_iter().chain(series) {
            body = body.replace(&format!("\"{colour}\""), &format!("\"var(--{name})\""));
        }
        let title = escaped(title);
        format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\">\n{body}</svg>\n")
    }
}

fn dashes(dash: &str) -> String {
    if dash.is_empty() { String::new() } else { format!(r#" stroke-dasharray="{dash}""#) }
}

fn listed(points: &[[f64; 2]]) -> String {
    points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" ")
}

/// Text that XML can hold, between tags and in attributes.
fn escaped(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `text` in at most three lines of `width` characters, broken at a word; what is still too long ends in `…`.
pub fn folded(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > width && lines.len() < LINES {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            let gap = if line.is_empty() { "" } else { " " };
            line.push_str(gap);
            line.push_str(word);
        }
    }
    lines.iter().map(|line| cut(line, width)).collect()
}

/// `text`, or its beginning and `…`.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_write_markup() {
        let mut svg = Svg::new(10.0, 10.0);
        let font = Font { size: 12.0, colour: "#222", weight: 400 };
        svg.text([0.0, 0.0], "a<b>&\u{1b}", font, Anchor::End);
        let file = svg.finish("x < y");
        assert!(file.contains(">a&lt;b&gt;&amp; <") && file.contains("<title>x &lt; y</title>"), "{file}");
    }

    #[test]
    fn long_names_are_folded_and_cut() {
        assert_eq!(folded("BPO, F=2", 20), ["BPO, F=2"]);
        assert_eq!(folded("BPO, F=2, beta=0.5, loss_type=ipo", 20), ["BPO, F=2, beta=0.5,", "loss_type=ipo"]);
        let long = folded("one two three four five six seven eight", 10);
        assert_eq!(long, ["one two", "three four", "five six…"]);
        assert_eq!(folded(&"x".repeat(30), 10), ["xxxxxxxxx…"]);
    }
}

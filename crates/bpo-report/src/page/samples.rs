//! Responses side by side, coloured token by token.
use super::{add, escape::escaped};
use crate::{Exchange, Piece, Record, Response};

/// Nats of a token from which each shade begins; the last one has no end.
const SHADES: [f32; 5] = [0.5, 1.0, 2.0, 4.0, 7.0];
/// The same of a token's log-ratio, to either side.
const RATIOS: [f32; 4] = [0.05, 0.2, 0.6, 1.5];

/// Held-out prompts before and after.
pub(super) fn held_out(record: &Record, page: &mut String) {
    if record.held_out.is_empty() {
        return;
    }
    page.push_str("<h2>Held-out prompts, before and after</h2>\n");
    let ratios = record.held_out.iter().any(has_ratios);
    if ratios {
        contrast("the start", page)
    } else {
        legend("each response's own policy", page)
    }
    record.held_out.iter().for_each(|exchange| shown(exchange, page));
}

/// A pair of each phase.
pub(super) fn pairs(record: &Record, page: &mut String) {
    let pairs: Vec<(String, &Exchange)> =
        record.phases.iter().filter_map(|phase| Some((phase.name(), phase.pair.as_ref()?))).collect();
    if pairs.is_empty() {
        return;
    }
    page.push_str("<h2>Judged pairs, one of each phase</h2>\n");
    let own_reference = record.setting("reference").as_deref() == Some("behaviour");
    let policy = if own_reference { "the behaviour policy, which is the reference" } else { "the behaviour policy" };
    let ratios = pairs.iter().any(|(_, exchange)| has_ratios(exchange));
    if ratios {
        contrast(policy, page)
    } else {
        legend(policy, page)
    }
    for (phase, exchange) in pairs {
        let title = format!("{}, {phase}", exchange.title);
        shown(&Exchange { title, ..exchange.clone() }, page);
    }
}

fn has_ratios(exchange: &Exchange) -> bool {
    exchange.responses.iter().any(|response| response.log_ratio.is_some())
}

/// The legend of log-ratios to `reference`.
fn contrast(reference: &str, page: &mut String) {
    add(
        page,
        format_args!(
            "<p class=\"faint\">Colour: what training did to a token, log π − log π_ref, π being the trained policy and π_ref \
             {reference}"
        ),
    );
    for (class, side, name) in [("u", "+", "likelier"), ("d", "−", "unlikelier")] {
        for (shade, nats) in RATIOS.iter().enumerate() {
            let name = if shade == 0 { format!("{name} now, ") } else { String::new() };
            add(
                page,
                format_args!(
                    "<span class=\"whole\"><i class=\"key {class}{}\"></i>{name}{side}{nats} nats</span>",
                    shade + 1
                ),
            );
        }
    }
    page.push_str(" and beyond. Under the pointer: the log-prob when it was drawn, and the log-ratio.</p>\n");
}

fn legend(policy: &str, page: &mut String) {
    add(
        page,
        format_args!(
            "<p class=\"faint\">Colour: how unlikely a token was under {policy} when it was drawn, by its recorded log-prob"
        ),
    );
    for (shade, nats) in SHADES.iter().enumerate() {
        add(page, format_args!("<span class=\"whole\"><i class=\"key s{}\"></i>−{nats} nats</span>", shade + 1));
    }
    page.push_str(" and below. The number is under the pointer.</p>\n");
}

fn shown(exchange: &Exchange, page: &mut String) {
    let Exchange { title, prompt, responses, verdict } = exchange;
    let verdict = verdict.as_ref().map_or_else(String::new, |verdict| format!(": {}", escaped(verdict)));
    add(page, format_args!("<section class=\"pair card\">\n<h3>{}{verdict}</h3>\n", escaped(title)));
    match prompt {
        Some(prompt) => add(page, format_args!("<p class=\"text prompt\">{}</p>\n", escaped(prompt))),
        None => page.push_str(
            "<p class=\"faint\">The prompt's text is not known: its file is gone, was changed, or is large.</p>\n",
        ),
    }
    page.push_str("<div class=\"sides\">\n");
    responses.iter().for_each(|response| one(response, page));
    page.push_str("</div>\n</section>\n");
}

fn one(response: &Response, page: &mut String) {
    let mut facts = vec![escaped(&response.title)];
    facts.extend(response.score.map(|score| format!("score {score:+.2}")));
    facts.extend(response.size.map(|(tokens, logp)| format!("{tokens} tokens, log-prob {logp:.1} nats")));
    facts.extend(response.log_ratio.map(|ratio| format!("log-ratio {ratio:+.2} nats")));
    add(page, format_args!("<div><p class=\"faint\" style=\"margin:0\">{}</p><p class=\"text\">", facts.join(" · ")));
    for (index, Piece { text, logp, log_ratio }) in response.pieces.iter().enumerate() {
        let Some(logp) = logp else {
            page.push_str(&escaped(text));
            continue;
        };
        // A special token is no text. At the end it is what ended the response; elsewhere, a part of a character.
        let is_end = text.is_empty() && index + 1 == response.pieces.len() && !response.is_cut;
        if text.is_empty() && !is_end {
            continue;
        }
        let (shade, title) = match log_ratio {
            Some(ratio) => (ratio_shade(*ratio), format!("{logp:.2}, {ratio:+.2}")),
            None => (format!("s{}", shade(*logp)), format!("{logp:.2}")),
        };
        let class = if is_end { format!("end {shade}") } else { shade };
        let text = if is_end { "■".to_owned() } else { escaped(text) };
        add(page, format_args!("<span class=\"{class}\" title=\"{title}\">{text}</span>"));
    }
    if response.is_cut {
        page.push_str("<span class=\"end\"> … cut here</span>");
    }
    page.push_str("</p></div>\n");
}

/// 0 is a token that was to be expected.
fn shade(logp: f32) -> usize {
    SHADES.iter().filter(|nats| -logp >= **nats).count()
}

/// `u` for a token that is likelier now, `d` for one that is not; 0 is one that is as it was.
fn ratio_shade(ratio: f32) -> String {
    let side = if ratio > 0.0 { 'u' } else { 'd' };
    format!("{side}{}", RATIOS.iter().filter(|nats| ratio.abs() >= **nats).count())
}

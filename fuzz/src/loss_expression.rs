//! Losses as text: canonical text means the same, and faults point into the text.
use bpo_loss::Expression;

/// What parses is written in a canonical form that parses to the same loss and is written alike.
pub fn loss_expression(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Expression::parse(text) {
        Ok(expression) => {
            let canonical = expression.to_string();
            assert!(canonical.len() <= Expression::MAX_BYTES);
            let again = Expression::parse(&canonical).unwrap_or_else(|error| panic!("{canonical}: {error}"));
            assert_eq!(again, expression, "{canonical}");
            assert_eq!(again.to_string(), canonical);
            assert_eq!(again.batch_coupled(), expression.batch_coupled());
            assert_eq!(again.uses_lengths(), expression.uses_lengths());
            assert_eq!(again.min_pairs(), expression.min_pairs());
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() <= 2 * text.len().min(Expression::MAX_BYTES) + 400, "{message}");
        }
    }
}

//! Reads Kubernetes quantities
//! (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>).
//!
//! Exact for every amount that a node or a pod states in practice; what cannot be read counts as
//! zero, since one odd object must not stop the others.

/// In units, rounded up as the scheduler does.
pub(crate) fn whole(text: &str) -> i64 {
    scaled(text, 1)
}

/// In thousandths, rounded up.
pub(crate) fn milli(text: &str) -> i64 {
    scaled(text, 1000)
}

fn scaled(text: &str, factor: i128) -> i64 {
    parse(text).map_or(0, |(numerator, denominator)| {
        let amount = (numerator * factor + denominator - 1).div_euclid(denominator);
        i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX })
    })
}

/// A quantity as a fraction.
fn parse(text: &str) -> Option<(i128, i128)> {
    let text = text.trim();
    let end =
        text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let negative = whole.starts_with('-');
    let digits = format!("{}{fraction}", whole.trim_start_matches(['+', '-']));
    if digits.is_empty() || digits.len() > 24 {
        return None;
    }
    let value: i128 = digits.parse().ok()?;
    let value = if negative { -value } else { value };
    let denominator = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let (up, down) = suffix_factor(suffix)?;
    Some((value.checked_mul(up)?, denominator.checked_mul(down)?))
}

fn suffix_factor(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10_i128.pow(power.unsigned_abs().min(18));
            if power < 0 { (1, factor) } else { (factor, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubernetes_writes() {
        for (text, want) in [
            ("2", 2000),
            ("1800m", 1800),
            ("0.5", 500),
            ("100n", 1),
            ("1e3", 1_000_000),
            ("", 0),
            ("abc", 0),
            ("-1", -1000),
        ] {
            assert_eq!(milli(text), want, "{text}");
        }
        for (text, want) in [
            ("256Mi", 256 << 20),
            ("1Gi", 1 << 30),
            ("16384Ki", 16384 << 10),
            ("129e6", 129_000_000),
            ("129M", 129_000_000),
            ("1.5Gi", 3 << 29),
            ("500m", 1),
            ("99999999999999999999999", i64::MAX),
        ] {
            assert_eq!(whole(text), want, "{text}");
        }
    }
}

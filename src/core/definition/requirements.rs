//! vCPUs, memory and GPUs: two ways to state them, and how a job's replace a definition's
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_ResourceRequirement.html>).

/// What a definition or a job states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stated {
    /// The older `vcpus`.
    pub vcpus: Option<i64>,
    /// The older `memory`, MiB.
    pub memory: Option<i64>,
    /// `resourceRequirements`: type and value.
    pub requirements: Vec<(String, String)>,
}

/// What a job gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// vCPUs in thousandths, as written; what `maxvCpus` counts.
    pub vcpus_milli: i64,
    /// Memory in MiB.
    pub memory_mib: i64,
    /// Whole GPUs.
    pub gpus: i64,
}

impl Amounts {
    /// What both take at the same time.
    pub fn plus(self, other: Self) -> Self {
        Self {
            vcpus_milli: self.vcpus_milli.saturating_add(other.vcpus_milli),
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
            gpus: self.gpus.saturating_add(other.gpus),
        }
    }

    /// What is enough for either, one after the other.
    pub fn max(self, other: Self) -> Self {
        Self {
            vcpus_milli: self.vcpus_milli.max(other.vcpus_milli),
            memory_mib: self.memory_mib.max(other.memory_mib),
            gpus: self.gpus.max(other.gpus),
        }
    }
}

/// The definition's amounts, replaced per type by the job's.
///
/// # Errors
/// A sentence naming the member: an amount is missing or is no number, or the two ways to state
/// it contradict each other.
pub fn merge(definition: &Stated, overrides: &Stated) -> Result<Amounts, String> {
    let of = |kind: &str, older: fn(&Stated) -> Option<i64>| -> Result<Option<String>, String> {
        let required =
            |stated: &Stated| stated.requirements.iter().find(|(k, _)| k == kind).map(|(_, v)| v.clone());
        if let Some(value) = required(overrides) {
            return Ok(Some(value));
        }
        match (required(definition), older(overrides)) {
            (Some(_), Some(_)) => Err(format!(
                "containerOverrides: the {kind} value was submitted in a deprecated key and may conflict with \
                 the value provided by the job definition's resource requirements"
            )),
            (Some(value), None) => Ok(Some(value)),
            (None, newer) => Ok(newer.or(older(definition)).map(|n| n.to_string())),
        }
    };
    let vcpus = of("VCPU", |s| s.vcpus)?.ok_or("resourceRequirements: VCPU is required")?;
    let memory = of("MEMORY", |s| s.memory)?.ok_or("resourceRequirements: MEMORY is required")?;
    let gpus = of("GPU", |_| None)?;
    Ok(Amounts {
        vcpus_milli: vcpus_milli(&vcpus)?,
        memory_mib: positive("MEMORY", &memory, 4)?,
        gpus: gpus.map_or(Ok(0), |text| positive("GPU", &text, 1))?,
    })
}

/// vCPUs are whole, or quarters as on Fargate.
fn vcpus_milli(text: &str) -> Result<i64, String> {
    let wrong = || format!("resourceRequirements: VCPU must be a multiple of 0.25, not {text:?}");
    let vcpus: f64 = text.parse().map_err(|_| wrong())?;
    let quarters = vcpus * 4.0;
    if !(1.0..=40_000.0).contains(&quarters) || quarters.fract() != 0.0 {
        return Err(wrong());
    }
    // At most 40,000 and whole, as just checked.
    Ok(quarters as i64 * 250)
}

/// More than any node has, of anything.
const MOST: i64 = 1_000_000_000;

fn positive(kind: &str, text: &str, least: i64) -> Result<i64, String> {
    let number = text.parse().ok().filter(|number| (least..=MOST).contains(number));
    number.ok_or_else(|| {
        format!("resourceRequirements: {kind} must be a whole number of at least {least}, not {text:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stated(vcpus: Option<i64>, memory: Option<i64>, requirements: &[(&str, &str)]) -> Stated {
        let requirements = requirements.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Stated { vcpus, memory, requirements }
    }

    #[test]
    fn both_ways_to_state_amounts() {
        let new = [("VCPU", "2"), ("MEMORY", "256")];
        let none = stated(None, None, &[]);
        for (name, definition, overrides, want) in [
            ("older members", stated(Some(2), Some(256), &[]), none.clone(), Ok((2000, 256, 0))),
            ("requirements", stated(None, None, &new), none.clone(), Ok((2000, 256, 0))),
            (
                "GPU beside older members",
                stated(Some(8), Some(2048), &[("GPU", "1")]),
                none.clone(),
                Ok((8000, 2048, 1)),
            ),
            (
                "override per type",
                stated(None, None, &new),
                stated(None, None, &[("MEMORY", "512")]),
                Ok((2000, 512, 0)),
            ),
            (
                "older override of older members",
                stated(Some(2), Some(256), &[]),
                stated(Some(4), None, &[]),
                Ok((4000, 256, 0)),
            ),
            ("quarters", stated(None, Some(512), &[("VCPU", "0.25")]), none.clone(), Ok((250, 512, 0))),
            (
                "older override of requirements",
                stated(None, None, &new),
                stated(Some(4), None, &[]),
                Err("deprecated key"),
            ),
            (
                "the least",
                stated(None, Some(4), &[("VCPU", "0.25"), ("GPU", "1")]),
                none.clone(),
                Ok((250, 4, 1)),
            ),
            (
                "less than a quarter",
                stated(None, Some(4), &[("VCPU", "0")]),
                none.clone(),
                Err("of 0.25, not \"0\""),
            ),
            (
                "no quarters",
                stated(None, Some(4), &[("VCPU", "0.3")]),
                none.clone(),
                Err("of 0.25, not \"0.3\""),
            ),
            ("the most", stated(None, Some(4), &[("VCPU", "10000")]), none.clone(), Ok((10_000_000, 4, 0))),
            (
                "more than any node has",
                stated(None, Some(4), &[("VCPU", "10000.25")]),
                none.clone(),
                Err("of 0.25, not \"10000.25\""),
            ),
            (
                "no GPU at all",
                stated(Some(1), Some(4), &[("GPU", "0")]),
                none.clone(),
                Err("GPU must be a whole"),
            ),
            ("no vCPUs", stated(None, Some(4), &[]), none.clone(), Err("VCPU is required")),
            ("no memory", stated(Some(1), None, &[]), none.clone(), Err("MEMORY is required")),
            ("no number", stated(None, Some(4), &[("VCPU", "two")]), none.clone(), Err("\"two\"")),
            ("too little memory", stated(Some(1), Some(3), &[]), none.clone(), Err("at least 4")),
            ("not a number at all", stated(None, Some(4), &[("VCPU", "NaN")]), none, Err("NaN")),
        ] {
            match (merge(&definition, &overrides), want) {
                (Ok(got), Ok(want)) => {
                    assert_eq!((got.vcpus_milli, got.memory_mib, got.gpus), want, "{name}")
                }
                (Err(got), Err(want)) => assert!(got.contains(want), "{name}: {got}"),
                (got, want) => panic!("{name}: got {got:?}, want {want:?}"),
            }
        }
    }
}

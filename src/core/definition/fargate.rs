//! Jobs for serverless nodes: AWS's pairs of vCPUs and memory
//! (<https://docs.aws.amazon.com/batch/latest/APIReference/API_ResourceRequirement.html>).

use super::requirements::Amounts;
use crate::reason;

/// vCPUs in thousandths, and their amounts of memory in MiB: the least, the most, and the step between them.
const PAIRS: [(i64, i64, i64, i64); 8] = [
    (250, 512, 2048, 512),
    (500, 1024, 4096, 1024),
    (1000, 2048, 8192, 1024),
    (2000, 4096, 16_384, 1024),
    (4000, 8192, 30_720, 1024),
    (8000, 16_384, 61_440, 4096),
    (16_000, 32_768, 122_880, 8192),
    (32_000, 61_440, 249_856, 1024),
];

/// Of the smallest and of the largest size not every step exists.
fn is_left_out(vcpus_milli: i64, memory_mib: i64) -> bool {
    match vcpus_milli {
        250 => memory_mib == 1536,
        32_000 => ![61_440, 122_880, 249_856].contains(&memory_mib),
        _ => false,
    }
}

/// Whether a job of this size can run on Fargate.
///
/// # Errors
/// AWS's sentence.
pub fn check(amounts: &Amounts) -> Result<(), String> {
    if amounts.gpus > 0 {
        return Err("resourceRequirements: GPU is not applicable for Fargate.".to_owned());
    }
    let Amounts { vcpus_milli, memory_mib, .. } = *amounts;
    let is_pair = PAIRS.iter().any(|(vcpus, least, most, step)| {
        *vcpus == vcpus_milli && (*least..=*most).contains(&memory_mib) && (memory_mib - least) % step == 0
    });
    match is_pair && !is_left_out(vcpus_milli, memory_mib) {
        true => Ok(()),
        false => Err(reason::fargate_pair(vcpus_milli, memory_mib)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs() {
        let valid: [(i64, &[i64]); 8] = [
            (250, &[512, 1024, 2048]),
            (500, &[1024, 2048, 3072, 4096]),
            (1000, &[2048, 5120, 8192]),
            (2000, &[4096, 9216, 16_384]),
            (4000, &[8192, 20_480, 30_720]),
            (8000, &[16_384, 20_480, 61_440]),
            (16_000, &[32_768, 40_960, 122_880]),
            (32_000, &[61_440, 122_880, 249_856]),
        ];
        let amounts = |vcpus_milli, memory_mib| Amounts { vcpus_milli, memory_mib, gpus: 0 };
        for (vcpus, memories) in valid {
            for memory in memories {
                assert_eq!(check(&amounts(vcpus, *memory)), Ok(()), "{vcpus} {memory}");
            }
            for memory in [4, 1536, memories[0] - 512, memories[0] + 256, memories[memories.len() - 1] + 512]
            {
                assert!(
                    memories.contains(&memory) || check(&amounts(vcpus, memory)).is_err(),
                    "{vcpus} {memory}"
                );
            }
        }
        for (vcpus, memory, want) in [
            (1000, 4000, "Fargate resource requirements (1.00 vCPU, 4000 MiB) not valid."),
            (250, 1536, "Fargate resource requirements (0.25 vCPU, 1536 MiB) not valid."),
            (3000, 8192, "Fargate resource requirements (3.00 vCPU, 8192 MiB) not valid."),
            (32_000, 62_464, "Fargate resource requirements (32.00 vCPU, 62464 MiB) not valid."),
        ] {
            assert_eq!(check(&amounts(vcpus, memory)), Err(want.to_owned()));
        }
        let gpu = Amounts { gpus: 1, ..amounts(1000, 2048) };
        assert!(check(&gpu).is_err_and(|why| why.contains("GPU")));
    }
}

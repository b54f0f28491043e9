//! Amounts of what a node offers and a pod requests.

/// The resource that GPUs are counted by where nobody says otherwise.
pub const GPU: &str = "nvidia.com/gpu";

/// What a pod takes of a node, or what a node has to give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_milli: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// Whole GPUs: `nvidia.com/gpu`, or what an environment says that they are.
    pub gpus: i64,
    /// Pods.
    pub pods: i64,
}

impl Resources {
    /// True when each amount of `self` is within `room`. An amount of zero always is, even on a
    /// node that is overcommitted.
    pub fn fits(&self, room: &Self) -> bool {
        let within = |need: i64, room: i64| need <= 0 || need <= room;
        within(self.cpu_milli, room.cpu_milli)
            && within(self.memory, room.memory)
            && within(self.gpus, room.gpus)
            && within(self.pods, room.pods)
    }

    /// Takes `other` away; the result may be negative on a node that is overcommitted.
    pub fn charge(&mut self, other: &Self) {
        self.cpu_milli = self.cpu_milli.saturating_sub(other.cpu_milli);
        self.memory = self.memory.saturating_sub(other.memory);
        self.gpus = self.gpus.saturating_sub(other.gpus);
        self.pods = self.pods.saturating_sub(other.pods);
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.cpu_milli = self.cpu_milli.saturating_add(other.cpu_milli);
        self.memory = self.memory.saturating_add(other.memory);
        self.gpus = self.gpus.saturating_add(other.gpus);
        self.pods = self.pods.saturating_add(other.pods);
    }

    /// The larger of each amount.
    pub fn max(&self, other: &Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.max(other.cpu_milli),
            memory: self.memory.max(other.memory),
            gpus: self.gpus.max(other.gpus),
            pods: self.pods.max(other.pods),
        }
    }
}

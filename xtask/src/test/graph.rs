//! The stages as a graph: which one starts next is decided here, without starting anything.

/// A resource that only one stage at a time may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// `target/` of cargo for the host: a second cargo would only wait for its lock.
    HostTarget,
    /// `target/device`, where a program lies until another of the same name is built.
    DeviceBuilds,
    /// The kernel's source in the cache, of which one build at a time has the lock.
    KernelBuilds,
}

/// A stage, as far as its order is concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) name: &'static str,
    /// Stages that must have passed, where they are part of the run.
    pub(super) needs: &'static [&'static str],
    /// Resources that the stage has for itself while it runs.
    pub(super) lanes: &'static [Lane],
    /// Whether the others' processors are the stage's first.
    pub(super) rank: Rank,
}

/// Which stages are the first to have the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    /// The run is as long as the chain of these: they start as soon as they can, whatever else runs.
    Urgent,
    /// Starts when a processor is free.
    Usual,
    /// As [`Rank::Usual`], and has what the others leave idle: nothing in it depends on time.
    Filler,
}

/// The state of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Running,
    Passed,
    Failed,
}

/// The stages of one run, the most urgent first.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    nodes: Vec<(Node, State)>,
}

impl Graph {
    pub(super) fn new(nodes: impl IntoIterator<Item = Node>) -> Self {
        Self { nodes: nodes.into_iter().map(|node| (node, State::Waiting)).collect() }
    }

    /// The urgent stage that starts now.
    pub(super) fn next_urgent(&self) -> Option<&'static str> {
        self.first(|node| node.rank == Rank::Urgent)
    }

    /// The stage that starts when a processor is free.
    pub(super) fn next(&self) -> Option<&'static str> {
        self.first(|_| true)
    }

    /// The first of these stages that has what it needs and whose lanes nobody uses.
    fn first(&self, is_meant: impl Fn(&Node) -> bool) -> Option<&'static str> {
        let lane_is_free = |lane: &Lane| {
            !self.nodes.iter().any(|(n, s)| *s == State::Running && n.lanes.contains(lane))
        };
        let can_start = |(node, state): &&(Node, State)| {
            *state == State::Waiting
                && is_meant(node)
                && node
                    .needs
                    .iter()
                    .all(|need| matches!(self.state(need), None | Some(State::Passed)))
                && node.lanes.iter().all(lane_is_free)
        };
        self.nodes.iter().find(can_start).map(|(node, _)| node.name)
    }

    /// A stage that can never start, and the failed one that it needs.
    pub(super) fn hopeless(&self) -> Option<(&'static str, &'static str)> {
        let waiting = self.nodes.iter().filter(|(_, state)| *state == State::Waiting);
        waiting.into_iter().find_map(|(node, _)| {
            let failed = node.needs.iter().find(|need| self.state(need) == Some(State::Failed));
            failed.map(|need| (node.name, *need))
        })
    }

    /// Notes how far a stage is.
    pub(super) fn set(&mut self, name: &str, state: State) {
        for (_, now) in self.nodes.iter_mut().filter(|(node, _)| node.name == name) {
            *now = state;
        }
    }

    /// The stages that have not ended, and how far each is.
    pub(super) fn unfinished(&self) -> Vec<(&'static str, State)> {
        let ends = [State::Passed, State::Failed];
        let open = self.nodes.iter().filter(|(_, state)| !ends.contains(state));
        open.map(|(node, state)| (node.name, *state)).collect()
    }

    fn state(&self, name: &str) -> Option<State> {
        self.nodes.iter().find(|(node, _)| node.name == name).map(|(_, state)| *state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &'static str, needs: &'static [&'static str], lanes: &'static [Lane]) -> Node {
        Node { name, needs, lanes, rank: Rank::Usual }
    }

    fn graph() -> Graph {
        Graph::new([
            node("kernels", &[], &[]),
            node("images", &["kernels"], &[Lane::DeviceBuilds]),
            node("unit", &["images"], &[Lane::HostTarget, Lane::DeviceBuilds]),
            node("boards", &["kernels"], &[Lane::DeviceBuilds]),
            node("lint", &[], &[Lane::HostTarget]),
            node("docs", &[], &[Lane::HostTarget]),
            node("fuzz", &[], &[]),
        ])
    }

    /// Starts what can be started, in order.
    fn start_all(graph: &mut Graph) -> Vec<&'static str> {
        let mut started = Vec::new();
        while let Some(name) = graph.next() {
            graph.set(name, State::Running);
            started.push(name);
        }
        started
    }

    #[test]
    fn the_most_urgent_stage_that_can_start_does() {
        let mut graph = graph();
        assert_eq!(start_all(&mut graph), ["kernels", "lint", "fuzz"]);
        graph.set("kernels", State::Passed);
        assert_eq!(start_all(&mut graph), ["images"]);
    }

    #[test]
    fn an_urgent_stage_starts_before_those_in_front_of_it() {
        let urgent = Node { rank: Rank::Urgent, ..node("system", &["images"], &[]) };
        let mut graph = Graph::new([node("images", &[], &[]), node("lint", &[], &[]), urgent]);
        assert_eq!(graph.next_urgent(), None);
        graph.set("images", State::Passed);
        assert_eq!(graph.next(), Some("lint"));
        assert_eq!(graph.next_urgent(), Some("system"));
    }

    #[test]
    fn a_lane_has_one_stage_at_a_time() {
        let mut graph = graph();
        start_all(&mut graph);
        graph.set("lint", State::Passed);
        assert_eq!(start_all(&mut graph), ["docs"]);
        graph.set("kernels", State::Passed);
        assert_eq!(start_all(&mut graph), ["images"]);
        graph.set("images", State::Passed);
        assert_eq!(start_all(&mut graph), ["boards"], "unit needs the lane of docs as well");
        graph.set("docs", State::Passed);
        assert_eq!(start_all(&mut graph), [""; 0]);
        graph.set("boards", State::Failed);
        assert_eq!(start_all(&mut graph), ["unit"]);
    }

    #[test]
    fn what_needs_a_failed_stage_fails_with_it_and_nothing_else_does() {
        let mut graph = graph();
        start_all(&mut graph);
        assert_eq!(graph.hopeless(), None);
        graph.set("kernels", State::Failed);
        let mut failed = Vec::new();
        while let Some((name, need)) = graph.hopeless() {
            graph.set(name, State::Failed);
            failed.push((name, need));
        }
        assert_eq!(failed, [("images", "kernels"), ("unit", "images"), ("boards", "kernels")]);
        let open = [("lint", State::Running), ("docs", State::Waiting), ("fuzz", State::Running)];
        assert_eq!(graph.unfinished(), open);
    }

    #[test]
    fn a_stage_that_is_no_part_of_the_run_is_not_waited_for() {
        let graph = Graph::new([node("images", &["kernels"], &[Lane::DeviceBuilds])]);
        assert_eq!(graph.next(), Some("images"));
    }

    #[test]
    fn every_order_of_ends_comes_to_an_end() {
        // Whatever of the running ones ends first, nobody waits for ever.
        for choice in 0..64usize {
            let (mut graph, mut choice) = (graph(), choice);
            while !graph.unfinished().is_empty() {
                start_all(&mut graph);
                let open = graph.unfinished();
                let running: Vec<_> = open.iter().filter(|(_, s)| *s == State::Running).collect();
                assert!(!running.is_empty(), "{graph:?}");
                graph.set(running[choice % running.len()].0, State::Passed);
                choice /= 2;
            }
        }
    }
}

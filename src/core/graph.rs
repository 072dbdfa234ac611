//! Which services depend on which.

/// A service's place in the configuration.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub(crate) struct ServiceId(pub(crate) usize);

impl ServiceId {
    /// The service of a configuration that names none.
    pub(crate) const ONLY: ServiceId = ServiceId(0);
}

/// What a service waits for in one that it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum When {
    /// It was built, and nothing newer of it is being built.
    Built,
    /// It serves.
    Ready,
}

/// A dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Edge {
    pub(crate) on: ServiceId,
    pub(crate) when: When,
    /// Whether the dependent is restarted whenever the other serves, or was built, anew.
    pub(crate) cascades: bool,
}

/// The dependencies of all services. There is no cycle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Graph {
    /// The edges of each service.
    edges: Vec<Vec<Edge>>,
}

impl Graph {
    /// This many services that do not depend on each other.
    pub(crate) fn unconnected(count: usize) -> Graph {
        Graph { edges: vec![Vec::new(); count] }
    }

    /// Takes the edges of each service.
    ///
    /// # Errors
    ///
    /// Services that depend on each other in a circle, each followed by one that it depends on.
    pub(crate) fn new(edges: Vec<Vec<Edge>>) -> Result<Graph, Vec<ServiceId>> {
        let graph = Graph { edges };
        let mut is_clear = vec![false; graph.edges.len()];
        for service in graph.services() {
            graph.look_for_cycle(service, &mut Vec::new(), &mut is_clear)?;
        }
        Ok(graph)
    }

    fn look_for_cycle(
        &self,
        service: ServiceId,
        path: &mut Vec<ServiceId>,
        is_clear: &mut [bool],
    ) -> Result<(), Vec<ServiceId>> {
        if let Some(first) = path.iter().position(|one| *one == service) {
            return Err(path.split_off(first));
        }
        if is_clear[service.0] {
            return Ok(());
        }
        path.push(service);
        for edge in self.edges(service) {
            self.look_for_cycle(edge.on, path, is_clear)?;
        }
        path.pop();
        is_clear[service.0] = true;
        Ok(())
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = ServiceId> + use<> {
        (0..self.edges.len()).map(ServiceId)
    }

    /// What a service depends on.
    pub(crate) fn edges(&self, service: ServiceId) -> &[Edge] {
        &self.edges[service.0]
    }

    /// The services that depend on this one.
    pub(crate) fn dependents(&self, on: ServiceId) -> impl Iterator<Item = ServiceId> {
        let depends = move |one: &ServiceId| self.edges(*one).iter().any(|edge| edge.on == on);
        self.services().filter(depends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(service: usize) -> Edge {
        Edge { on: ServiceId(service), when: When::Ready, cascades: false }
    }

    #[test]
    fn a_cycle_is_named_by_its_services_alone() {
        let edges = vec![vec![on(1)], vec![on(2)], vec![on(3)], vec![on(1)]];
        assert_eq!(Graph::new(edges), Err(vec![ServiceId(1), ServiceId(2), ServiceId(3)]));
        assert_eq!(Graph::new(vec![vec![on(0)]]), Err(vec![ServiceId(0)]));
    }

    #[test]
    fn a_diamond_is_no_cycle() {
        let graph = Graph::new(vec![vec![on(1), on(2)], vec![on(3)], vec![on(3)], vec![]]);
        let graph = graph.expect("no cycle");
        let dependents: Vec<ServiceId> = graph.dependents(ServiceId(3)).collect();
        assert_eq!(dependents, [ServiceId(1), ServiceId(2)]);
    }
}

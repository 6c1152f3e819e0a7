//! From the words of a manifest to the scheduler's terms, and what admission refuses of them.
//!
//! Nothing here places anything. A name that means nothing yet, such as that of a workload to come, is no mistake.

use super::Engine;
use super::desired::Encoded;
use super::stored::{Stored, WorkloadBody};
use crate::geo::Distance;
use crate::model::{
    self, AntiAffinityDomain, DeviceTaint, DevicesByLabel, Expression, FieldError, LabelSelector, ObjectKey, Operator,
    PlacementSpec, TaintEffect,
};
use crate::scheduler::{
    AntiAffinity, Apartness, Effect, Fulfilment, Losses, Near, NearestPer, Needs, OnShortfall, OtherWorkload,
    Requirement, Runtime, Selector, Spread, SpreadBy, Taint, Terms, TermsProblem, Toleration, Wanted, WorkloadNumber,
    WorkloadSpecView,
};
use std::collections::BTreeMap;

impl Engine {
    /// The workload as the scheduler sees it.
    pub(super) fn view(
        &self,
        key: &ObjectKey,
        stored: &Stored,
        body: &WorkloadBody,
        encoded: &Encoded,
    ) -> WorkloadSpecView {
        WorkloadSpecView {
            uid: stored.uid.clone(),
            name: key.name.clone(),
            terms: self.terms(&key.namespace, &body.spec.placement),
            wanted: body.spec.replicas.map_or(Wanted::Every, Wanted::Replicas),
            needs: Needs {
                runtime: Runtime::Function,
                interfaces: encoded.interfaces(),
                boot_clock: body.spec.partition.lease().is_some(),
                wire_min: 1,
                resources: encoded.resources,
            },
            losses: Losses::default(),
        }
    }

    /// What the scheduler would not understand, with the fields that it is about.
    pub(super) fn placement_mistakes(&self, key: &ObjectKey, placement: &PlacementSpec) -> Vec<FieldError> {
        let problems = self.terms(&key.namespace, placement).problems(&key.name);
        let error = |problem: &TermsProblem| {
            let field = match problem {
                TermsProblem::NoValues { .. } => "selector",
                TermsProblem::NoRegions | TermsProblem::CellLevel { .. } => "spread/by",
                TermsProblem::ApartFromItself { .. } | TermsProblem::NoWorkloads => "antiAffinity/workloads",
                TermsProblem::NearTwice => "nearestPer",
            };
            FieldError { pointer: format!("/spec/placement/{field}"), detail: problem.to_string() }
        };
        problems.iter().map(error).collect()
    }

    fn terms(&self, namespace: &str, placement: &PlacementSpec) -> Terms {
        let PlacementSpec {
            within,
            near,
            nearest_per,
            labels,
            selector,
            class,
            on,
            tolerations,
            min_distance_km,
            spread,
            anti_affinity,
            on_shortfall,
        } = placement;
        let chosen = devices(labels, selector.as_ref());
        Terms {
            within: within.clone(),
            near: near.map(|near| Near { point: near.point, distance_max: near.max_km.and_then(Distance::from_km) }),
            labels: chosen.labels,
            requirements: chosen.requirements,
            on: on.clone(),
            class: class.clone(),
            tolerations: tolerations.iter().map(toleration).collect(),
            nearest_per: nearest_per.as_ref().map(|nearest| {
                let DevicesByLabel { labels, selector } = &nearest.devices;
                NearestPer { devices: devices(labels, selector.as_ref()), k: nearest.k }
            }),
            distance_min: min_distance_km.and_then(Distance::from_km),
            spread: spread.as_ref().map(|spread| Spread { by: spread_by(&spread.by), skew_max: spread.max_skew }),
            anti_affinity: anti_affinity.iter().map(|term| self.anti_affinity(namespace, term)).collect(),
            on_shortfall: match on_shortfall {
                model::OnShortfall::Partial => OnShortfall::Partial,
                model::OnShortfall::Wait => OnShortfall::Wait,
                model::OnShortfall::Fail => OnShortfall::Fail,
            },
            position_age_max: None,
        }
    }

    fn anti_affinity(&self, namespace: &str, term: &model::AntiAffinity) -> AntiAffinity {
        let other = |name: &String| {
            let stored = self.state.objects.get(&ObjectKey::workload(namespace, name));
            let number = stored.and_then(|stored| stored.workload()).map(|body| WorkloadNumber(body.id));
            OtherWorkload { name: name.clone(), number }
        };
        AntiAffinity {
            workloads: term.workloads.iter().map(other).collect(),
            domain: match term.domain {
                AntiAffinityDomain::Device => Apartness::Device,
                AntiAffinityDomain::Site => Apartness::Site,
            },
        }
    }
}

fn devices(labels: &BTreeMap<String, String>, selector: Option<&LabelSelector>) -> Selector {
    let matched = selector.into_iter().flat_map(|selector| &selector.match_labels);
    let mut pairs: Vec<(String, String)> =
        labels.iter().chain(matched).map(|(key, value)| (key.clone(), value.clone())).collect();
    pairs.sort();
    pairs.dedup();
    let expressions = selector.into_iter().flat_map(|selector| &selector.match_expressions);
    Selector { labels: pairs, requirements: expressions.map(requirement).collect() }
}

fn requirement(expression: &Expression) -> Requirement {
    let (key, values) = (expression.key.clone(), expression.values.clone());
    match expression.operator {
        Operator::In => Requirement::In { key, values },
        Operator::NotIn => Requirement::NotIn { key, values },
        Operator::Exists => Requirement::Exists { key },
        Operator::DoesNotExist => Requirement::NotExists { key },
    }
}

/// `Exists` has no value, which tolerates them all.
fn toleration(toleration: &model::Toleration) -> Toleration {
    let model::Toleration { key, operator: _, value, effect: which } = toleration;
    Toleration { key: key.clone(), value: value.clone(), effect: which.map(effect) }
}

fn effect(effect: TaintEffect) -> Effect {
    match effect {
        TaintEffect::NoSchedule => Effect::NoSchedule,
        TaintEffect::NoExecute => Effect::NoExecute,
    }
}

pub(super) fn taint(taint: &DeviceTaint) -> Taint {
    let DeviceTaint { key, value, effect: which } = taint;
    Taint { key: key.as_str().into(), value: value.as_str().into(), effect: effect(*which) }
}

fn spread_by(by: &model::SpreadBy) -> SpreadBy {
    match by {
        model::SpreadBy::Site => SpreadBy::Site,
        model::SpreadBy::Regions(names) => SpreadBy::Regions(names.clone()),
        model::SpreadBy::Cell(level) => SpreadBy::Cell(*level),
    }
}

pub(super) fn fulfilment(fulfilment: Fulfilment) -> model::Fulfilment {
    match fulfilment {
        Fulfilment::Complete => model::Fulfilment::Complete,
        Fulfilment::Partial => model::Fulfilment::Partial,
        Fulfilment::Waiting => model::Fulfilment::Waiting,
        Fulfilment::Failed => model::Fulfilment::Failed,
    }
}

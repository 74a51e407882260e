//! `/metrics`: what Prometheus scrapes, in the OpenMetrics text format.
//!
//! Whoever may connect to the HTTP door may read it, so that it holds sums only: no ids, no names, no addresses.
//! `docs/metrics.md` lists every metric; a test compares the two.

use std::fmt;

use keyward_proto::query::Reason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry as Exposed;

use super::{AskDoor, Meters, REASONS};
use crate::registry::{BOUNDS_NANOS, Observed, Summary};

/// What the text's format calls itself.
pub(in crate::serve) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const NANOS_PER_SECOND: f64 = 1e9;

/// Everything that is exposed, at one time.
#[derive(Debug)]
pub(in crate::serve) struct Exposition {
    pub(in crate::serve) summary: Summary,
    /// Unix seconds.
    pub(in crate::serve) started_at: u64,
    /// Open ones by door.
    pub(in crate::serve) connections: Vec<(&'static str, u64)>,
    /// Refused ones by door and cause.
    pub(in crate::serve) refused: Vec<(&'static str, &'static str, u64)>,
    /// Reloads by outcome.
    pub(in crate::serve) reloads: [(&'static str, u64); 2],
}

/// The text.
pub(in crate::serve) fn exposed(exposition: Exposition, meters: &Meters) -> String {
    let verdicts = meters.verdicts();
    let answers = AskDoor::ALL.map(|door| meters.of(door).answers());
    let mut registry = Exposed::default();
    registry.register_collector(Box::new(Scrape { exposition, verdicts, answers }));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("a String takes everything");
    out
}

#[derive(Debug)]
struct Scrape {
    exposition: Exposition,
    verdicts: [[u64; REASONS]; 2],
    answers: [Observed; 2],
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.put_process(&mut page)?;
        self.put_doors(&mut page)?;
        self.put_storage(&mut page)
    }
}

impl Scrape {
    fn put_process(&self, page: &mut Page<'_>) -> fmt::Result {
        let Exposition { summary, started_at, reloads, .. } = &self.exposition;
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.gauges("keyward_build_info", "The running version; always 1", [(version, 1)])?;
        page.gauge("keyward_start_time_seconds", "When the daemon started, unix time", *started_at)?;
        let uptime = summary.now.0.saturating_sub(*started_at);
        page.gauge("keyward_uptime_seconds", "For how long the daemon has been running", uptime)?;
        let behind = "How far the system's clock stands behind the time that decisions use";
        page.gauge("keyward_clock_behind_seconds", behind, summary.clock_behind)?;
        page.gauge("keyward_alarms", "What is wrong; keyward status says it in words", summary.alarms.len() as u64)?;
        let outcomes = reloads.map(|(outcome, count)| ([("outcome", outcome)], count));
        page.counters("keyward_config_reloads", "Reloads of the configuration", outcomes)
    }

    fn put_doors(&self, page: &mut Page<'_>) -> fmt::Result {
        let verdicts = AskDoor::ALL.iter().zip(&self.verdicts).flat_map(|(door, counts)| {
            let of_door = Reason::ALL.iter().zip(counts);
            of_door.map(|(reason, count)| ([("door", door.name()), ("reason", reason.name())], *count))
        });
        page.counters("keyward_verdicts", "Targets judged, each of a batch by itself", verdicts)?;
        let answers = AskDoor::ALL.iter().zip(&self.answers).map(|(door, seen)| ([("door", door.name())], seen));
        let took = "Time to make the answers to one read of query.sock or to one HTTP request, without writing them";
        page.histograms("keyward_answer_seconds", took, answers)?;
        let open = self.exposition.connections.iter().map(|(door, count)| ([("door", *door)], *count));
        page.gauges("keyward_connections", "Open connections", open)?;
        let refused = self.exposition.refused.iter();
        let refused = refused.map(|(door, cause, count)| ([("door", *door), ("cause", *cause)], *count));
        page.counters("keyward_connections_refused", "Connections that were refused", refused)
    }

    fn put_storage(&self, page: &mut Page<'_>) -> fmt::Result {
        let summary = &self.exposition.summary;
        page.histogram("keyward_commit_seconds", "Time to make a commit durable", &summary.commits)?;
        let published = "Time to show a commit's changes to the questions";
        page.histogram("keyward_publish_seconds", published, &summary.publishes)?;
        let age = "Age of the oldest last use that is not stored yet; 0 when all are";
        page.gauge("keyward_unflushed_use_age_seconds", age, summary.unflushed_use_age.unwrap_or(0))?;
        page.gauge("keyward_database_bytes", "Size of the database's file", summary.database_bytes.unwrap_or(0))?;
        page.gauge("keyward_revision", "Revision of the last commit", summary.revision.0)?;
        let counts = &summary.counts;
        let rows = [
            ("agents", summary.agents),
            ("endpoints", counts.endpoints),
            ("keys", counts.keys),
            ("tokens", counts.tokens),
            ("sessions", counts.sessions),
            ("tag_sets", counts.tag_sets),
        ];
        let rows = rows.map(|(kind, count)| ([("kind", kind)], count));
        page.gauges("keyward_rows", "Rows by kind; of agents and endpoints those that were not removed", rows)?;
        page.gauge("keyward_writable", "Whether changes are taken: 1 or 0", u64::from(summary.writable))
    }
}

/// Where the metrics go.
struct Page<'e>(DescriptorEncoder<'e>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        values.into_iter().try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
    }

    /// The format appends `_total` to the names of the values.
    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        values.into_iter().try_for_each(|(labels, value)| {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)
        })
    }

    fn histograms<'o, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, &'o Observed)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        values.into_iter().try_for_each(|(labels, seen)| put_histogram(&mut family.encode_family(&labels)?, seen))
    }

    fn histogram(&mut self, name: &str, help: &str, seen: &Observed) -> fmt::Result {
        put_histogram(&mut self.0.encode_descriptor(name, help, None, MetricType::Histogram)?, seen)
    }
}

fn put_histogram(encoder: &mut MetricEncoder<'_>, seen: &Observed) -> fmt::Result {
    let bounds = BOUNDS_NANOS.map(seconds).into_iter().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(seen.buckets).collect();
    encoder.encode_histogram::<NoLabelSet>(seconds(seen.nanos), seen.count(), &buckets, None)
}

/// To the nearest that a float can tell.
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / NANOS_PER_SECOND
}

use zeroize::Zeroizing;

use super::*;
use crate::directory::Compiler;
use crate::model::record::AgentName;
use crate::model::{Agent, Id, Pepper, Revision};
use crate::store::Store;
use crate::tags::TagSet;

fn pepper() -> Pepper {
    Pepper::new(Zeroizing::new([7; 32]))
}

fn agent(enabled: bool) -> Record {
    Record::Agent(Agent {
        id: Id::new(1).unwrap(),
        name: AgentName::parse("One").unwrap(),
        permissions: Arc::new(TagSet::parse("*").unwrap()),
        enabled,
        removed: false,
        attributes: Default::default(),
    })
}

#[test]
fn what_one_change_of_a_group_undoes_of_another_is_noted() {
    let mut compiler = Compiler::new(Arc::new(pepper()));
    compiler.apply([&agent(false)], Revision(1));
    let change = |enabled| Change { records: vec![agent(enabled)], ..Change::default() };
    let cases: [(&[bool], &[Fate]); 4] = [
        (&[true], &[Fate::Enabled]),
        (&[true, false], &[Fate::Enabled, Fate::Disabled]),
        (&[false, true], &[Fate::Enabled]),
        (&[true, true, false], &[Fate::Enabled, Fate::Disabled]),
    ];
    for (group, expected) in cases {
        let changes: Vec<_> = group.iter().map(|enabled| change(*enabled)).collect();
        let fates = fates_of(compiler.directory(), &changes.iter().collect::<Vec<_>>());
        assert_eq!(fates.iter().map(|(_, fate)| *fate).collect::<Vec<_>>(), expected, "{group:?}");
    }
}

#[test]
fn a_watermark_that_can_not_be_written_is_an_alarm_as_long_as_it_can_not() {
    let directory = tempfile::tempdir().unwrap();
    let (_store, loaded) = Store::open(directory.path(), &pepper(), &mut |_| {}).unwrap();
    let watermark = Watermark::make(directory.path(), &pepper(), &loaded.head).unwrap();
    let mut marks = Marks { watermark, alarm: Alarm::default() };
    marks.watermark.reopen(false);
    for _ in 0..2 {
        marks.note(&loaded.head, &[]);
        assert!(told(&marks.alarm).as_ref().is_some_and(|alarm| alarm.contains("can't be written")));
    }
    marks.watermark.reopen(true);
    marks.note(&loaded.head, &[]);
    assert_eq!(*told(&marks.alarm), None);
}

#[test]
fn the_alarm_of_the_watermark_outlasts_a_reopening_of_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let registry = super::super::Registry::open(directory.path(), pepper(), Box::new(|_| {})).unwrap();
    *told(&registry.shared.watermark_alarm) = Some("it can't be written".into());
    // As a reopening does.
    registry.shared.set_alarms(Vec::new());
    assert_eq!(registry.summary().alarms, ["it can't be written"]);
}

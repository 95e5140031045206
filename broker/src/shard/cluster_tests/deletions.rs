//! Logs whose start moves.

use super::*;

/// Records are deleted up to within a batch while a follower is away whose log ends before. It drops its
/// log and begins where its leader's begins; the leader answers with the whole batch, which begins
/// before. An empty log begins with that batch, and its own start follows once the batch is committed
/// here.
#[test]
fn a_log_is_fetched_anew_from_within_a_batch() {
    let mut world = World::new();
    world.elect(1, &[1, 2]);
    world.produce(1, 7, Acks::All, "one");
    let now_ms = world.now_ms;
    let five = batch_of(&["a", "b", "c", "d", "e"]);
    let items = vec![AppendItem { partition: TIP, batch: five, epoch: None }];
    let origin = AppendOrigin::Leader;
    let command =
        Command::Append { items, origin, acks: Acks::Leader, deadline_ms: 10_000, answer: 8 };
    world.node(1).command(command, now_ms);
    world.node(1).commit();
    world.catch_up(2);
    assert_eq!(world.node(1).core.high_watermark(&TIP), Some(Offset(6)));
    // Offset 3 is the third of the five.
    let before = Some(Offset(3));
    let command =
        Command::DeleteRecords { partition: TIP, before, deadline_ms: 10_000, answer: NOBODY };
    world.node(1).command(command, now_ms);
    world.fetch(3);
    assert_eq!(world.node(3).position.unwrap().fetch_offset, Offset(3), "it was out of range");
    world.fetch(3);
    assert_eq!(world.node(3).log(), [(1, 2)], "what came was taken: {}", world.told(3));
    world.node(3).commit();
    let reader = world.node(3).core.reader(&TIP).unwrap();
    assert_eq!((reader.log_start(), reader.log_end()), (Offset(3), Offset(6)));
    assert_eq!(world.node(3).core.high_watermark(&TIP), Some(Offset(6)));
    world.tell(3);
    assert_eq!(world.grant(), "1,2,3");
}

/// What was deleted comes back with no next leader: it is answered when all in-sync replicas have deleted it.
#[test]
fn a_deletion_waits_for_the_replicas_in_sync() {
    let mut world = World::new();
    world.elect(1, &[1, 2]);
    for (answer, value) in [(7, "one"), (8, "two")] {
        world.produce(1, answer, Acks::All, value);
    }
    world.node(1).commit();
    world.catch_up(2);
    world.told(1);
    let delete = |before, answer, deadline_ms| Command::DeleteRecords {
        partition: TIP,
        before: Some(Offset(before)),
        deadline_ms,
        answer,
    };
    let now_ms = world.now_ms;
    world.node(1).command(delete(1, 9, now_ms + 10_000), now_ms);
    assert_eq!(world.told(1), "");
    // It is told along with what the leader sends, and tells it back by itself.
    world.fetch(2);
    assert_eq!(world.node(2).core.reader(&TIP).unwrap().log_start(), Offset(1));
    world.tell(2);
    assert_eq!(world.told(1), "9:start=1");
    // Nobody tells of this one.
    world.node(1).command(delete(2, 10, now_ms + 50), now_ms);
    world.tick(100);
    assert_eq!(world.told(1), format!("10:start={}", DeleteRecordsError::TimedOut));
    // Whoever leads no more cannot know.
    let now_ms = world.now_ms;
    world.node(1).command(delete(2, 11, now_ms + 10_000), now_ms);
    world.elect(2, &[1, 2]);
    assert_eq!(world.told(1), format!("11:start={}", DeleteRecordsError::NotLeader));
}

//! Several gateways in front of one platform: what each of them does for itself.

use std::time::Duration;

use crate::{
    eventually,
    simulators::Platform,
    support::{fleet::fleet, websocket},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_of_one_wakes_stops_and_is_killed_and_frozen() {
    let mut fleet = fleet(1).await.apps(["shop"]).defaults("idle_timeout: 300ms").start().await;
    assert_eq!(fleet.status(0, "shop", "/r/1").await, 200);
    assert_eq!((fleet.starts_asked("shop").len(), fleet.starts_in_flight("shop")), (1, 0));
    assert!(fleet.agrees("shop", "awake").await, "{}", fleet.tells(0, "shop").await);
    let open = websocket(fleet.address(0), "shop.test").await;
    eventually!(fleet.platform.in_flight("shop") == 1);
    drop(open);
    eventually!(fleet.platform.in_flight("shop") == 0);
    eventually!(fleet.stops_asked().len() == 1);
    assert!(fleet.busy_stops().is_empty());
    fleet.freeze(0);
    assert!(tokio::time::timeout(Duration::from_millis(200), fleet.status(0, "shop", "/r/2")).await.is_err());
    fleet.thaw(0);
    assert_eq!(fleet.status(0, "shop", "/r/3").await, 200);
    fleet.kill(0).await;
    assert_eq!(fleet.status(0, "shop", "/r/4").await, 0);
    fleet.restart(0).await;
    eventually!(fleet.status(0, "shop", "/r/5").await == 200);
    fleet.end(0).await;
}

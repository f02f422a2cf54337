//! The engine goes away and comes back.

use anyhow::Result;

use crate::Named;
use crate::site::Site;

pub(crate) const TRIALS: &[Named] = &[(
    "an_engine_goes_and_comes_back",
    an_engine_goes_and_comes_back,
)];

fn an_engine_goes_and_comes_back() -> Result<()> {
    let (site, mark) = Site::guarded()?;
    for _ in 0..2 {
        site.run("systemctl stop docker.socket docker; rm -f /run/docker.sock")?;
        site.stranger.never_got_in(mark)?;
        site.run("systemctl reset-failed docker; systemctl start docker")?;
        site.only_friends_get_in(mark)?;
    }
    // Not stopped in order: nothing tidies up.
    site.run("systemctl kill --signal KILL docker; systemctl reset-failed docker; systemctl restart docker")?;
    site.only_friends_get_in(mark)
}

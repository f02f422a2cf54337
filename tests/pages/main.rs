#[path = "../support/pages.rs"]
mod pages;
fn main() {
    for (name, audit) in [("one", pages::host_with(1)), ("thirty", pages::host_with(30)), ("many", pages::host_with(300)), ("hostile", pages::hostile_host())] {
        std::fs::write(format!("/tmp/shots/{name}.html"), audit.html()).unwrap();
        std::fs::write(format!("/tmp/shots/{name}.svg"), audit.svg()).unwrap();
    }
}

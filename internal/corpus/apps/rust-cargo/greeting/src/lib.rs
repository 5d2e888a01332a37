pub fn text(name: &str) -> String {
    format!("hello {name}")
}

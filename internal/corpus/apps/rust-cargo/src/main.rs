fn main() {
    println!("{} {}", greeting::text("kedge"), env!("TARGET"));
}

/** Greets. */
public class App {
    /** Prints a greeting. @param args words */
    public static void main(String[] args) {
        Runnable r = () -> System.out.println("hello " + args.length);
        r.run();
    }
}

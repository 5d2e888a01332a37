package main

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
	"github.com/urfave/cli/v2"
)

// likeDocker are arguments of "kedge build" that docker's own parser parses in the same way.
var likeDocker = []string{
	".",
	"-",
	"--tag=a --tag b -tc -t=d -t e .",
	". -t a", // flags after the path
	"-t a . -f x -",
	"-f - .",
	"--file - .",
	"-o - .",
	"--output=- .",
	"-o-",
	"-f -x .", // a value that starts with a dash
	"--target --load .",
	"--file -- .",
	"-tag .", // -t ag
	"-t=",
	"--target= .",
	"--target a=b=c",
	"--load --push=false --verify=true .",
	"--load false", // no value: a second path
	"--load=0 --load=T .",
	"-- -t",
	"--load -- --push -",
	". -- . --",
	"--build-arg=A=1,2 --build-arg B= --build-arg C --build-arg= .",
	"-ta -fb",
	"-Xt a",
	"-Xta",
	"-XX",
	"-X=false",
	"-tX",
	"-XtX=",
	"-fX=y",
	// Errors.
	"--nope",
	"--nope=1 .",
	"-Z",
	"-XZ",
	"-XZt a",
	"-t",
	"-Xt",
	"--tag",
	"--file",
	"---",
	"--=x",
	"---tag=x",
	"-=x",
	"-X=",
	"--load=maybe",
	"-X=2",
	"--t a",
	"--X",
	"-ö",
	"",
}

// verbs returns the verb build with one more flag, -X, for bundles of short flags.
func verbs() *cli.Command {
	p := &process{env: map[string]string{}}
	build := p.buildVerb()
	build.Flags = append(build.Flags, &cli.BoolFlag{Name: "extra", Aliases: []string{"X"}})
	return &cli.Command{Name: "kedge", Subcommands: []*cli.Command{build}}
}

// seen returns what docker's parser reads from words.
type seen struct {
	flags *[]flagValue
	o     option
}

func (s seen) String() string { return "" }

func (s seen) Type() string { return s.o.kind }

func (s seen) Set(value string) error {
	if s.o.boolean && !strings.Contains("|1|t|T|TRUE|true|True|0|f|F|FALSE|false|False|", "|"+value+"|") {
		return errors.New("no boolean")
	}
	*s.flags = append(*s.flags, flagValue{s.o.name, value})
	return nil
}

func byDocker(words []string) ([]flagValue, []string, error) {
	var flags []flagValue
	set := pflag.NewFlagSet("build", pflag.ContinueOnError)
	for _, o := range optionsOf(verbs().Subcommands[0]) {
		if o.name == "help" {
			continue
		}
		f := set.VarPF(seen{&flags, o}, o.name, o.short, "")
		if o.kind == "" {
			f.NoOptDefVal = "true"
		}
	}
	set.Usage = func() {}
	set.SetInterspersed(true)
	err := set.Parse(words)
	return flags, set.Args(), err
}

func compareWithDocker(t *testing.T, words []string) {
	t.Helper()
	flags, args, want := byDocker(words)
	if errors.Is(want, pflag.ErrHelp) {
		return // help wins in both, but docker does not read the words after it
	}
	line, err := parse(verbs(), append([]string{"build"}, words...))
	if (err == nil) != (want == nil) {
		t.Fatalf("%q: %v, and docker: %v", words, err, want)
	}
	if err != nil {
		if code, _ := advice(err, line.verbs); code != exitUsage {
			t.Errorf("%q: %v is no usage error", words, err)
		}
		// docker quotes a byte of a rune that is not ASCII.
		plain := !strings.ContainsFunc(strings.Join(words, ""), func(r rune) bool { return r >= utf8.RuneSelf })
		if plain && !strings.HasPrefix(want.Error(), "invalid argument") && err.Error() != want.Error() {
			t.Errorf("%q: %v, and docker: %v", words, err, want)
		}
		return
	}
	if diff := cmp.Diff(flags, line.flags, cmp.AllowUnexported(flagValue{})); diff != "" {
		t.Errorf("%q: flags (-docker +kedge):\n%s", words, diff)
	}
	if diff := cmp.Diff(strings.Join(args, "\x00"), strings.Join(line.args, "\x00")); diff != "" {
		t.Errorf("%q: args (-docker +kedge):\n%s", words, diff)
	}
}

func TestParseLikeDocker(t *testing.T) {
	for _, words := range likeDocker {
		compareWithDocker(t, strings.Fields(words))
	}
	compareWithDocker(t, []string{"", "--target", "", " "})
}

func FuzzParse(f *testing.F) {
	for _, words := range likeDocker {
		f.Add(words)
	}
	f.Fuzz(func(t *testing.T, words string) {
		compareWithDocker(t, strings.Split(words, " "))
	})
}

// A command line that parse has read reaches the verb through urfave/cli.
func TestArgv(t *testing.T) {
	root := verbs()
	build := root.Subcommands[0]
	var got []string
	build.Action = func(c *cli.Context) error {
		got = append([]string{c.String("file"), c.String("target")}, c.StringSlice("build-arg")...)
		got = append(got, c.Args().Slice()...)
		return nil
	}
	(&process{}).strict(root.Subcommands)
	line, err := parse(root, []string{"build", "help", "-f-", "--build-arg", " A=1, 2 ", "--target=", "--build-arg=-B", "--", "-x", "--target"})
	if err != nil {
		t.Fatal(err)
	}
	app := &cli.App{Name: "kedge", Commands: root.Subcommands, DisableSliceFlagSeparator: true}
	if err := app.Run(line.argv()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"-", "", " A=1, 2 ", "-B", "help", "-x", "--target"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseHints(t *testing.T) {
	for words, want := range map[string]string{
		"build --no-cahce .":   "--no-cache",
		"build -progress=tty":  "--progress",
		"build --something":    "",
		"buidl":                "build",
		"--builder x buidl":    "build",
		"help buidl":           "build",
		"build --tags=a --x .": "--tag",
	} {
		_, err := parse(verbs(), strings.Fields(words))
		var unknown *unknownError
		if !errors.As(err, &unknown) || unknown.Nearest != want {
			t.Errorf("%s: %v, and not %q", words, err, want)
		}
	}
}

// A flag may stand before the verb if docker buildx accepts it there.
func TestParseCarried(t *testing.T) {
	line, err := parse(verbs(), strings.Fields("--builder=b build --builder c ."))
	if diff := cmp.Diff([]flagValue{{"builder", "b"}, {"builder", "c"}}, line.flags, cmp.AllowUnexported(flagValue{})); err != nil || diff != "" {
		t.Error(err, diff)
	}
	if _, err := parse(verbs(), strings.Fields("--load build .")); err == nil {
		t.Error("--load stands before its verb")
	}
}

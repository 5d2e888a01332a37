package report

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	proto "github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdp "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/kedge-build/kedge/internal/testenv"
)

// browse starts Debian's chromium.
func browse(t *testing.T) context.Context {
	t.Helper()
	if testing.Short() {
		t.Skip("starts chromium: not in short mode")
	}
	testenv.Require(t, "chromium")
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), // as root without a sandbox
		chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND"),
		chromedp.Flag("disable-component-update", true),
	)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting chromium: %v", err)
	}
	return ctx
}

// tab is a page in the browser. At the end of the test it must have logged nothing, requested only itself and shown no
// dialog.
type tab struct {
	t    *testing.T
	ctx  context.Context
	file string
	load time.Duration // from the start of the navigation to the end of the load event

	mu       sync.Mutex
	requests []string
	trouble  []string
}

// open opens the page of r in a tab of its own.
func open(t *testing.T, browser context.Context, r *Report, before ...step) *tab {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, []byte(render(t, r)), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx, file: (&url.URL{Scheme: "file", Path: file}).String()}
	err := chromedp.Listen(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			b.requests = append(b.requests, e.Request.URL)
		case *runtime.EventConsoleAPICalled:
			b.trouble = append(b.trouble, fmt.Sprintf("console.%s", e.Type))
		case *runtime.EventExceptionThrown:
			b.trouble = append(b.trouble, e.ExceptionDetails.Text)
		case *log.EventEntryAdded:
			b.trouble = append(b.trouble, fmt.Sprintf("%s %s: %s", e.Entry.Source, e.Entry.Level, e.Entry.Text))
		case *cdp.EventJavascriptDialogOpening:
			b.trouble = append(b.trouble, fmt.Sprintf("a dialog: %s", e.Message))
			go func() {
				_, _ = chromedp.Call(ctx, cdp.HandleJavaScriptDialog, cdp.HandleJavaScriptDialogParams{})
			}()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	b.run(before...)
	start := time.Now()
	b.run(chromedp.Navigate(b.file))
	b.load = time.Since(start)
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, r := range b.requests {
			if r != b.file {
				t.Errorf("the page asked for %.200q", r)
			}
		}
		if len(b.requests) == 0 {
			t.Error("no request was seen, not even that of the page")
		}
		for _, s := range b.trouble {
			t.Errorf("the browser said: %s", s)
		}
	})
	return b
}

func (b *tab) run(actions ...step) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// expect checks the value of a JavaScript expression.
func expect[T comparable](b *tab, expression string, want T) {
	b.t.Helper()
	if got := value[T](b, expression); got != want {
		b.t.Errorf("%s is %v, want %v", expression, got, want)
	}
}

func value[T any](b *tab, expression string) T {
	b.t.Helper()
	got, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatal(err)
	}
	return got
}

// frames waits until the browser has laid out and painted.
func (b *tab) frames() {
	b.t.Helper()
	b.run(chromedp.Evaluate[chromedp.Void](`new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))`, chromedp.EvalAwaitPromise))
}

// step is an action in a tab.
type step = chromedp.Action[chromedp.Void]

func call[P, R any](command proto.Command[P, R], params P) step {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := proto.Call(ctx, target, command, params)
		return chromedp.Void{}, err
	}
}

func media(name, value string) step {
	return call(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: name, Value: value}}})
}

func screen(width, height int64, mobile bool) step {
	return call(emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 2, Mobile: mobile})
}

func scripts(disabled bool) step {
	return call(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: disabled})
}

func js(expression string) step { return chromedp.Evaluate[chromedp.Void](expression) }

func click(selector string) step { return chromedp.Click(chromedp.CSS(selector)) }

func keys(selector, keys string) step { return chromedp.SendKeys(chromedp.CSS(selector), keys) }

// until waits until an expression is true.
func until(expression string) step {
	return func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		_, err := chromedp.Poll[bool](expression)(ctx, target)
		return chromedp.Void{}, err
	}
}

const wide = `document.scrollingElement.scrollWidth`

// lowContrast names the text with the lowest contrast, as WCAG 2 defines it, if that is too low.
const lowContrast = `(() => {
	const rgb = (s) => s.match(/[\d.]+/g).map(Number);
	const luminance = (c) => c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
	const ground = (e) => {
		for (; e; e = e.parentElement) {
			const c = rgb(getComputedStyle(e).backgroundColor);
			if (c.length < 4 || c[3] > 0) return c;
		}
		return [255, 255, 255];
	};
	for (const d of document.querySelectorAll("details")) d.open = true;
	let worst = 99, where = "";
	for (const e of document.body.querySelectorAll("*")) {
		if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.localName === "script") continue;
		const [a, b] = [luminance(rgb(getComputedStyle(e).color)), luminance(ground(e))];
		const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (ratio < worst) [worst, where] = [ratio, e.outerHTML.slice(0, 80)];
	}
	return worst < 4.5 ? worst + " " + where : "";
})()`

func TestBrowser(t *testing.T) {
	browser := browse(t)

	t.Run("the tree folds", func(t *testing.T) {
		b := open(t, browser, example())
		const folder = `document.querySelectorAll(".d > details")[0]`
		const shown = `document.querySelector(".d .f").checkVisibility()`
		expect(b, folder+".open", true)
		expect(b, shown, true)
		b.run(js(folder+`.firstElementChild.scrollIntoView({block: "center"})`), click(".d > details > summary"))
		expect(b, folder+".open", false)
		expect(b, shown, false)
		b.run(click(".d > details > summary"))
		expect(b, folder+".open", true)

		b.run(chromedp.Focus(chromedp.CSS(".d > details > summary")), chromedp.KeyEvent(kb.Enter))
		expect(b, folder+".open", false)
		b.run(chromedp.KeyEvent(kb.ArrowRight))
		expect(b, folder+".open", true)
		b.run(chromedp.KeyEvent(kb.ArrowDown))
		expect(b, `document.activeElement.closest("li").className`, "f")
		b.run(chromedp.KeyEvent(kb.ArrowRight))
		expect(b, `document.activeElement.parentElement.open`, true)
		b.run(chromedp.KeyEvent(kb.ArrowLeft), chromedp.KeyEvent(kb.ArrowLeft))
		expect(b, `document.activeElement === `+folder+`.firstElementChild`, true)
		b.run(chromedp.KeyEvent(kb.ArrowLeft))
		expect(b, folder+".open", false)
		b.run(chromedp.KeyEvent(kb.End))
		expect(b, `document.activeElement.textContent.includes("Layer 4")`, true)

		b.run(click("#unfold"))
		expect(b, `document.querySelectorAll(".d > details:not([open])").length`, 0)
		b.run(click("#fold"))
		expect(b, `document.querySelectorAll(".d > details[open]").length`, 0)
	})

	t.Run("links open what they lead to", func(t *testing.T) {
		b := open(t, browser, example())
		b.run(click("#fold"))
		name := value[string](b, `document.querySelector("#causes .where a").textContent`)
		b.run(click("#causes .where a"))
		b.frames()
		if target := value[string](b, `document.querySelector(":target .p").textContent`); !strings.HasSuffix(name, target) {
			t.Errorf("a link to %q leads to %q", name, target)
		}
		expect(b, `document.querySelector(":target > details").open && document.querySelector(":target").checkVisibility()`, true)
	})

	t.Run("filter", func(t *testing.T) {
		b := open(t, browser, example())
		visible := `[...document.querySelectorAll(".f")].filter(e => e.checkVisibility()).length`
		expect(b, visible, 8)
		b.run(keys("#filter", "NATIVE"), until(`document.getElementById("found").value !== ""`))
		expect(b, `document.getElementById("found").value`, "1 file")
		expect(b, visible, 1)
		b.run(keys("#filter", strings.Repeat(kb.Backspace, 6)), until(`document.getElementById("found").value === ""`))
		expect(b, visible, 8)
	})

	t.Run("narrow", func(t *testing.T) {
		for name, r := range map[string]*Report{"example": example(), "hostile": hostile()["verify"], "history": driftLog(30), "hostile history": hostile()["driftlog"]} {
			b := open(t, browser, r, screen(360, 740, true))
			b.run(js(`for (const d of document.querySelectorAll("details")) d.open = true`))
			b.frames()
			if got := value[int](b, wide); got > 360 {
				t.Errorf("%s: on a screen of 360 pixels the page has %d", name, got)
			}
		}
	})

	t.Run("dark", func(t *testing.T) {
		for mode, dark := range map[string]bool{"dark": true, "light": false} {
			history := open(t, browser, driftLog(30), media("prefers-color-scheme", mode))
			if low := value[string](history, lowContrast); low != "" {
				t.Errorf("%s: the contrast of a history is low: %s", mode, low)
			}
			b := open(t, browser, example(), media("prefers-color-scheme", mode))
			low := value[string](b, lowContrast)
			if low != "" {
				t.Errorf("%s: the contrast is low: %s", mode, low)
			}
			expect(b, `getComputedStyle(document.body).backgroundColor.match(/\d+/g)[0] < 128`, dark)
		}
	})

	t.Run("ten thousand files", func(t *testing.T) {
		// Take the best of three: other tests run at the same time.
		b := open(t, browser, large(10_000))
		load := b.load
		for range 2 {
			b = open(t, browser, large(10_000))
			load = min(load, b.load)
		}
		t.Logf("loaded in %v", load)
		if load > 30*time.Second {
			t.Errorf("the page of 10,000 files took %v to load", load)
		}
		expect(b, `document.querySelectorAll(".f").length`, 10_000)
		// Open a deep folder and its parents, and wait until they are painted.
		start := time.Now()
		b.run(js(`(() => {
			const all = document.querySelectorAll(".d > details");
			let e = all[Math.floor(all.length * .7)];
			for (; e; e = e.parentElement) if (e.localName === "details") e.open = true;
		})()`))
		b.frames()
		if elapsed := time.Since(start); elapsed > 20*time.Second {
			t.Errorf("opening a folder took %v", elapsed)
		} else {
			t.Logf("a folder opened in %v", elapsed)
		}
		expect(b, `[...document.querySelectorAll(".f")].some(e => e.checkVisibility())`, true)
		start = time.Now()
		b.run(click("#unfold"))
		b.frames()
		t.Logf("all folders opened in %v", time.Since(start))
		start = time.Now()
		b.run(keys("#filter", "file7777"), until(`document.getElementById("found").value === "1 file"`))
		t.Logf("filtered in %v", time.Since(start))
	})

	t.Run("five hundred builds", func(t *testing.T) {
		b := open(t, browser, driftLog(500))
		t.Logf("loaded in %v", b.load)
		if b.load > 30*time.Second {
			t.Errorf("the page of 500 builds took %v to load", b.load)
		}
		expect(b, `document.querySelectorAll(".builds > li").length`, 500)
		expect(b, `document.querySelectorAll(".plot rect").length`, 4*500)
		expect(b, `document.querySelector(".plot rect title").textContent`, "2026-10-19: 70MB, Build 0 of <b>the</b> app")
		start := time.Now()
		b.run(js(`document.querySelectorAll(".builds details")[250].open = true`), js(`document.querySelectorAll(".builds details")[250].scrollIntoView()`))
		b.frames()
		if elapsed := time.Since(start); elapsed > 20*time.Second {
			t.Errorf("opening a build took %v", elapsed)
		} else {
			t.Logf("a build opened in %v", elapsed)
		}
		expect(b, `document.querySelectorAll(".builds details")[250].querySelector(".moves").checkVisibility()`, true)
		expect(b, `document.scripts.length`, 0)
	})

	t.Run("hostile", func(t *testing.T) {
		b := open(t, browser, hostile()["verify"])
		b.run(
			js(`for (const d of document.querySelectorAll("details")) d.open = true`),
			js(`document.getElementById("filter").focus()`),
			keys("#filter", `<script>"'`),
			js(`location.hash = "#<img src=x onerror=window.pwned=1>"`),
			js(`for (const e of document.querySelectorAll("*")) for (const n of ["mouseover", "focus", "toggle", "load", "error"]) e.dispatchEvent(new Event(n))`),
		)
		b.frames()
		expect(b, `typeof window.pwned`, "undefined")
		expect(b, `document.scripts.length`, 1)
		expect(b, `document.querySelectorAll("img, iframe, object, embed, base, link, form").length`, 0)
		expect(b, `document.title.includes("<script>")`, true)

		b = open(t, browser, hostile()["driftlog"])
		b.run(js(`for (const d of document.querySelectorAll("details")) d.open = true`))
		b.frames()
		expect(b, `typeof window.pwned`, "undefined")
	})

	t.Run("without script", func(t *testing.T) {
		b := open(t, browser, example(), scripts(true))
		b.run(click(".d > details > summary"))
		b.run(scripts(false))
		expect(b, `document.querySelector(".d > details").open`, false)
		expect(b, `document.getElementById("tools").hidden`, true)
	})
}

// TestBrowserNotices plants the faults that TestBrowser must catch.
func TestBrowserNotices(t *testing.T) {
	browser := browse(t)
	file := filepath.Join(t.TempDir(), "planted.html")
	if err := os.WriteFile(file, []byte(render(t, example())+`<script>window.pwned = 1</script><img src="https://evil.invalid/x.png">`), 0o644); err != nil {
		t.Fatal(err)
	}
	var said []string
	var mu sync.Mutex
	err := chromedp.Listen(browser, func(event any) {
		if e, ok := event.(*log.EventEntryAdded); ok {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, e.Entry.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := chromedp.Do(browser, chromedp.Navigate("file://"+file)); err != nil {
		t.Fatal(err)
	}
	pwned, err := chromedp.Run(browser, chromedp.Evaluate[string](`typeof window.pwned`))
	if err != nil {
		t.Fatal(err)
	}
	if pwned != "undefined" {
		t.Error("the policy lets a planted script run")
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"inline script", "evil.invalid"} {
		if !strings.Contains(strings.Join(said, "\n"), want) {
			t.Errorf("the browser does not tell of %q: %q", want, said)
		}
	}
}

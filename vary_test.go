package kedge

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kedge-build/kedge/builder"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestClockKept has no library for one of two platforms.
func TestClockKept(t *testing.T) {
	platform := func(arch string) builder.Platform {
		return builder.Platform{Platform: ocispec.Platform{OS: "linux", Architecture: arch}}
	}
	v := Vary{Clock: defaultClock, Builder: []builder.Variation{builder.VaryCPUs}}
	if got := varied(v, &builder.Result{Platforms: []builder.Platform{platform(runtime.GOARCH), platform("mips64le")}}).words(); !slices.Equal(got, []string{"cpus"}) {
		t.Errorf("the verdict says %q", got)
	}
	if got := varied(v, &builder.Result{Platforms: []builder.Platform{platform(runtime.GOARCH)}}); builder.CanMoveClock(runtime.GOARCH) != (got.Clock != 0) {
		t.Errorf("the verdict says %q", got.words())
	}
}

func TestParseVary(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]struct {
		clock time.Duration
		words string
	}{
		"time": {defaultClock, "time=+36h"}, "time=+400d": {400 * day, "time=+400d"}, "time=400d": {400 * day, "time=+400d"},
		"time=-3d": {-3 * day, "time=-3d"}, "time=+90m": {90 * time.Minute, "time=+1h30m0s"}, "time=-48h": {-48 * time.Hour, "time=-2d"},
		"none": {0, ""}, "hostname, time=1h,cpus": {time.Hour, "time=+1h hostname cpus"},
	} {
		v, cannot, err := ParseVary(text)
		if err != nil || len(cannot) > 0 || v.Clock != want.clock || strings.Join(v.words(), " ") != want.words {
			t.Errorf("%s: %+v %v %v", text, v, cannot, err)
		}
		if again, _, err := ParseVary(strings.Join(v.words(), ",")); want.words != "" && (err != nil || again.Clock != v.Clock || !slices.Equal(again.Builder, v.Builder)) {
			t.Errorf("%s: its words mean %+v, %v", text, again, err)
		}
	}
	for _, text := range []string{"", "moon", "time=", "time=0h", "time=soon", "time=4000d", "time=+1.5d", "time=1ms", "none,time", "time,none", "time=99999999999d"} {
		if v, _, err := ParseVary(text); err == nil {
			t.Errorf("%q means %+v", text, v)
		}
	}
}

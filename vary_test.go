package kedge

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseVary(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]struct {
		clock time.Duration
		words string
	}{
		"time": {DefaultClock, "time=+36h"}, "time=+400d": {400 * day, "time=+400d"}, "time=400d": {400 * day, "time=+400d"},
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

package kedge

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kedge-build/kedge/builder"
)

func TestSecondStart(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	now := time.Date(2026, 5, 6, 7, 8, 40, 0, time.UTC)
	tests := []struct {
		name string
		// How long before now.
		started, runStarted, runFinished time.Duration
		minute                           bool
		want                             time.Duration
	}{
		{"short step, just finished", s, 100 * ms, 0, false, 1900 * ms},
		{"short step, a while ago", 2 * s, 1500 * ms, 1400 * ms, false, 500 * ms},
		{"long step, just finished", time.Minute, time.Minute, 0, false, s},
		{"long step, half a second ago", time.Minute, time.Minute, 500 * ms, false, 500 * ms},
		{"finished a second ago", 10 * s, 10 * s, s, false, 0},
		{"started two seconds ago", 2 * s, 2 * s, 2 * s, false, 0},
		{"long ago", time.Hour, time.Minute, time.Minute, false, 2*s - time.Minute},
		{"started and finished now", 0, 0, 0, false, 2 * s},
		{"another minute", time.Minute, time.Minute, 0, true, 21 * s},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			first := &builder.Result{Started: now.Add(-test.started), LastRunStarted: now.Add(-test.runStarted), LastRunFinished: now.Add(-test.runFinished), Finished: now}
			if got := secondStart(first, test.minute).Sub(now); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
	// Cached steps finished before the build started, perhaps only just.
	if got := secondStart(&builder.Result{Started: now}, false); !got.Equal(now.Add(2 * s)) {
		t.Errorf("everything was cached: %v, want %v", got, now.Add(2*s))
	}
}

func TestSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := sleep(t.Context(), -time.Hour); err != nil || time.Since(start) != 0 {
			t.Errorf("a time that has passed: %v, %v", time.Since(start), err)
		}
		if err := sleep(t.Context(), time.Hour); err != nil || time.Since(start) != time.Hour {
			t.Errorf("an hour: %v, %v", time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Hour+time.Millisecond {
			t.Errorf("interrupted: %v, %v", time.Since(start), err)
		}
	})
}

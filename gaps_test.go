package kedge

import (
	"testing"

	"github.com/kedge-build/kedge/trace"
)

// What two builds on one machine and one day have in common is named, and what does not depend on them is not.
func TestCommonGaps(t *testing.T) {
	for text, want := range map[string]bool{
		"RUN gcc -march=native -O2 a.c": true, "RUN RUSTFLAGS='-C target-cpu=native' cargo build": true, "RUN gcc -march=x86-64-v3 a.c": false, "RUN gcc -mtune=generic native.c": false,
	} {
		if nativeCPU.MatchString(text) != want {
			t.Errorf("%s: compiled for the CPU: %v", text, !want)
		}
	}
	for text, want := range map[string]bool{
		"RUN awk 'BEGIN{srand(int(systime()/86400));print rand()}' > /x": true, "RUN python3 -c 'random.seed(date.today().toordinal())'": true, "RUN RANDOM=$(date +%j); echo $RANDOM > /x": true,
		"RUN python3 -c 'random.seed(7)'": false, "RUN date; rake db:seed": false, "RUN date; useradd seed": false,
	} {
		if got := seeds.MatchString(text) && trace.ReadsClock(text); got != want {
			t.Errorf("%s: a seed of the clock: %v", text, got)
		}
	}
}

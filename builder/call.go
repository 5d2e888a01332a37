package builder

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	gateway "github.com/moby/buildkit/frontend/gateway/client"
)

// Answer is a frontend's answer to a question about a Dockerfile.
type Answer struct {
	JSON, Text string
	Version    string // of the format of JSON
	Status     int    // the exit code that the frontend asks for
	Dockerfile Dockerfile
}

// Call sends the frontend one of BuildKit's subrequests: lint, outline, targets and so on. It runs no
// step. Sources are looked up through the lock, as for Build.
func (b *Builder) Call(ctx context.Context, req *Request, subrequest string) (*Answer, error) {
	j := newJob(b, req, Pass{})
	j.internal = true
	var answer *Answer
	_, err := j.session(ctx, nil, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		err := j.withLocals(ctx, c, func() (err error) { answer, err = j.query(ctx, c, subrequest); return err })
		return gateway.NewResult(), err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func (j *job) query(ctx context.Context, c gateway.Client, subrequest string) (*Answer, error) {
	opts := j.frontendOptions()
	opts["requestid"] = "frontend." + subrequest
	opts["frontend.caps"] = strings.Join(append(j.frontendCaps(), "moby.buildkit.frontend.subrequests+forward"), ",")
	res, err := c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: opts})
	if err != nil {
		return nil, fmt.Errorf("asking the frontend for %q: %w", subrequest, err)
	}
	a := &Answer{
		JSON: string(res.Metadata["result.json"]), Text: string(res.Metadata["result.txt"]),
		Version: string(res.Metadata["version"]), Dockerfile: j.req.Dockerfile,
	}
	// Zero if it is missing or no number.
	a.Status, _ = strconv.Atoi(string(res.Metadata["result.statuscode"]))
	return a, nil
}

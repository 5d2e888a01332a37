package builder

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	gateway "github.com/moby/buildkit/frontend/gateway/client"
)

// Answer is what a frontend says about a Dockerfile.
type Answer struct {
	JSON, Text string
	Version    string // of the form of JSON
	Status     int    // the exit code that the frontend asks for
}

// Call asks the frontend for what, which is one of BuildKit's subrequests, such as lint, outline and
// targets. No step runs. What is looked up meanwhile goes through the lock, as it does for Build.
func (b *Builder) Call(ctx context.Context, req *Request, what string) (*Answer, error) {
	s := newSolve(b, req, 0)
	s.internal = true
	var answer *Answer
	_, err := s.session(ctx, false, func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
		var err error
		answer, err = s.query(ctx, c, what)
		return gateway.NewResult(), err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func (s *solve) query(ctx context.Context, c gateway.Client, what string) (*Answer, error) {
	opts := s.frontendOptions()
	opts["requestid"] = "frontend." + what
	opts["frontend.caps"] = strings.Join(append(s.req.frontendCaps(), "moby.buildkit.frontend.subrequests+forward"), ",")
	res, err := c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: opts})
	if err != nil {
		return nil, fmt.Errorf("asking the frontend for %q: %w", what, err)
	}
	a := &Answer{
		JSON: string(res.Metadata["result.json"]), Text: string(res.Metadata["result.txt"]),
		Version: string(res.Metadata["version"]),
	}
	// No number, or none at all, is none.
	a.Status, _ = strconv.Atoi(string(res.Metadata["result.statuscode"]))
	return a, nil
}

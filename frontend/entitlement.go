package frontend

import (
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/entitlements"
)

// Need is an entitlement that a RUN step requires.
type Need struct {
	Entitlement string
	Line        int // of the Dockerfile; 0 if it is not known
}

// Needs returns the entitlements that the RUN steps require, in the order of the definition.
func (g *Graph) Needs() []Need {
	var needs []Need
	for _, n := range g.nodes {
		exec := n.op.GetExec()
		if exec == nil {
			continue
		}
		line := g.step(n.digest).Line
		if exec.Network == pb.NetMode_HOST {
			needs = append(needs, Need{entitlements.EntitlementNetworkHost.String(), line})
		}
		if exec.Security == pb.SecurityMode_INSECURE {
			needs = append(needs, Need{entitlements.EntitlementSecurityInsecure.String(), line})
		}
	}
	return needs
}

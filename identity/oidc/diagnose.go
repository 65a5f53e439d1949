package oidc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
)

// clockApart is how far the provider's clock may be from ours before an operator
// should know. Sign-ins fail beyond skew.
const clockApart = 30 * time.Second

// Finding is one thing that [Source.Diagnose] looked at.
type Finding struct {
	OK     bool
	What   string // what was found
	Remedy string // what to do, when something is to be done
}

// Diagnose looks the provider up anew and says what sign-ins will meet. It sends
// no secret and nobody's token, and changes nothing that the source remembers.
func (s *Source) Diagnose(ctx context.Context) []Finding {
	var all []Finding
	well := func(format string, args ...any) {
		all = append(all, Finding{OK: true, What: fmt.Sprintf(format, args...)})
	}
	if f, said := s.diagnoseClock(ctx); said {
		all = append(all, f)
	}
	p, err := s.discover(ctx, nil, false)
	if err != nil {
		return append(all, Finding{What: plainCause(err), Remedy: discoveryRemedy(err)})
	}
	well("its metadata can be used")
	well("its endpoints are at %s", strings.Join(p.hosts(), ", "))
	all = append(all, diagnoseKeys(ctx, p))
	if len(p.authMethods) == 0 {
		well("it does not say which client authentication it takes; %s is used", s.authMethod())
	} else {
		well("it takes %s", s.authMethod())
	}
	well("PKCE with S256 is used")
	switch {
	case s.pushed(p):
		well("requests are pushed")
	case p.parURL != "":
		well("it takes pushed requests, which `par` switches on")
	}
	if !p.issPromised {
		well("it does not promise to name itself in its responses (RFC 9207)")
	}
	if p.endSessionURL == "" {
		well("it has no end_session_endpoint: its own session may outlive a sign-out here")
	} else {
		well("people can sign out there too")
	}
	if p.notifies {
		well("it can send logout tokens: register the address <prefix>backchannel/%s there", s.name)
	} else {
		well("it does not say that it sends logout tokens: a session that it ends lives here until it is asked again")
	}
	return all
}

// hosts are those of all endpoints in use, each once.
func (p *provider) hosts() []string {
	var hosts []string
	for _, address := range []string{p.authURL, p.tokenURL, p.jwksURL, p.userinfoURL, p.parURL, p.endSessionURL} {
		if u, err := url.Parse(address); err == nil && u.Host != "" && !slices.Contains(hosts, u.Host) {
			hosts = append(hosts, u.Host)
		}
	}
	return hosts
}

func diagnoseKeys(ctx context.Context, p *provider) Finding {
	n, err := p.keys.Count(ctx)
	switch {
	case err != nil:
		return Finding{What: "its keys cannot be had: " + plainCause(err), Remedy: "see that jwks_uri of its metadata answers from this machine"}
	case n == 0:
		return Finding{What: "none of its keys can be used", Remedy: "let it publish a key for signatures: RSA of 2048 bits or more, P-256, P-384 or Ed25519, for " + strings.Join(p.algs, ", ")}
	}
	return Finding{OK: true, What: fmt.Sprintf("it has %d usable keys", n)}
}

// diagnoseClock compares the two clocks, if the provider shows its own.
func (s *Source) diagnoseClock(ctx context.Context) (Finding, bool) {
	before := s.now()
	at, err := s.client.ServerTime(ctx)
	if err != nil || at.IsZero() {
		return Finding{}, false
	}
	// The header has whole seconds, and the answer took a while.
	apart := before.Sub(at)
	if after := s.now().Sub(at); apart.Abs() > after.Abs() {
		apart = after
	}
	if apart.Abs() <= clockApart {
		return Finding{OK: true, What: "its clock and ours agree"}, true
	}
	way := "ahead of"
	if apart < 0 {
		way, apart = "behind", -apart
	}
	return Finding{
		What:   fmt.Sprintf("our clock is %v %s the provider's: sign-ins fail beyond %v", apart.Round(time.Second), way, skew),
		Remedy: "set the clock of this machine by NTP; if it is right, the provider's is wrong",
	}, true
}

// plainCause is what a failure is about, without its kind and code.
func plainCause(err error) string {
	if f, ok := errors.AsType[*identity.Failure](err); ok && f.Err != nil {
		return f.Err.Error()
	}
	return err.Error()
}

// discoveryRemedy is what to do about metadata that cannot be had or used.
func discoveryRemedy(err error) string {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "write `ca_file` with the certificate of the authority that signed the provider's"
	}
	member, _ := strings.CutPrefix(identity.Reason(err), "discovery.")
	switch {
	case member == "unreachable":
		return "see that the provider runs and can be reached from this machine: its name, the firewall, `proxy`, and the line `issuer`"
	case member == "issuer":
		return "write `issuer` exactly as the provider spells it"
	case strings.HasSuffix(member, "_endpoint"), member == "jwks_uri", member == "mtls_endpoint_aliases":
		return "if the provider really uses that host, write it into the line `hosts`; otherwise let the provider mend its metadata"
	}
	return "change the provider's settings for this client, or the line that the message names"
}

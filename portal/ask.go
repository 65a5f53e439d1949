package portal

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
)

// maxAsk bounds an ask in an address, in bytes: the longest host and the rest,
// and what a page needs, sealed. It also goes into the cookie of the attempt at the
// portal.
const maxAsk = 1792

// ask is what a site sends along when it hands a browser to the one portal: for
// which site, and for which attempt of which browser, a code is wanted. It is
// sealed with the key that our nodes share, so that nobody makes one but a site
// of this installation. An attacker who could make one would choose the host
// that a code for a signed-in person is sent to, and could redeem it.
type ask struct {
	Site      string // host as the browser sent it, lower case: where the code goes
	State     string // of the attempt that waits at the site
	Challenge []byte // hash of the attempt's verifier, as in PKCE (RFC 7636)

	// Prompt is the Unix second in which somebody signed out of that browser at
	// the site, 0 for nobody: a sign-on that began before is not good enough.
	Prompt  int64
	Created int64         // Unix seconds
	Need    identity.Need `json:",omitzero"` // what the page that is to be opened asks for
}

// Reasons of asks that are not honoured, as they stand in the audit log.
const (
	reasonAskUnreadable = "ask.unreadable"
	reasonAskExpired    = "ask.expired"
	reasonAskSite       = "ask.site"
)

// newVerifier returns what only the sealed cookie of an attempt holds. Who saw
// the ask, the state and the code on their way does not know it.
func newVerifier() []byte {
	b := make([]byte, 32)
	rand.Read(b) // never fails (crypto/rand)
	return b
}

func challenge(verifier []byte) []byte {
	h := sha256.New()
	h.Write([]byte(labelChallenge + "\x00"))
	h.Write(verifier)
	return h.Sum(nil)
}

// goal is where a sign-in leads: to an address on this site, or back to the
// site that asked for it.
type goal struct {
	to  string
	ask string // as it came, sealed; empty without one
	k   ask    // what is in it

	need identity.Need // what the sign-in has to show
	hint string        // what the person is called at the provider, if they said
}

// openAsk returns what is in an ask, or why it is not honoured. An ask that is
// only too old comes with its reason: its site may be named on a page.
func (p *Portal) openAsk(ctx context.Context, text string) (ask, string, error) {
	var k ask
	if len(text) > maxAsk {
		return ask{}, reasonAskUnreadable, fmt.Errorf("opening ask: %d bytes", len(text))
	}
	if err := p.openJSON(ctx, labelAsk, text, &k); err != nil {
		return ask{}, reasonAskUnreadable, fmt.Errorf("opening ask: %w", err)
	}
	if !isToken(k.State) || len(k.Challenge) != sha256.Size {
		return ask{}, reasonAskUnreadable, errors.New("opening ask: it belongs to no attempt")
	}
	// The seal says that one of our nodes wrote the host, not that it is a site:
	// a site that answers for every name would seal the Host of a stranger, who
	// then waits for the code there.
	if !validHost(k.Site) || !p.handsTo(k.Site) {
		return ask{}, reasonAskSite, errors.New("opening ask: its host is no site of ours")
	}
	now, created := p.now(), time.Unix(k.Created, 0)
	if now.Sub(created) >= attemptTTL || created.Sub(now) > attemptSkew {
		return k, reasonAskExpired, nil
	}
	return k, "", nil
}

// handsTo reports whether browsers may be handed to this host: a gated site,
// and not the portal itself.
func (p *Portal) handsTo(host string) bool {
	host = originHost(host)
	return p.home != "" && host != p.home && p.served(host)
}

// beginURL is the address at the portal that begins a sign-in, of one source or
// of the choice, and leads to the goal.
func (p *Portal) beginURL(source string, g goal) string {
	q := make(url.Values)
	switch {
	case g.ask != "":
		q.Set("ask", g.ask)
	default:
		needQuery(g.need, q)
		if g.to != "/" {
			q.Set("return_to", g.to)
		}
	}
	if g.hint != "" {
		q.Set("login_hint", g.hint)
	}
	s := p.loginURL(source, "/")
	if len(q) > 0 {
		s += "?" + q.Encode()
	}
	return s
}

// sealJSON seals a value of ours under its label, for an address or a cookie.
func (p *Portal) sealJSON(ctx context.Context, label string, v any) (string, error) {
	var plain bytes.Buffer
	enc := json.NewEncoder(&plain)
	enc.SetEscapeHTML(false) // it would make six bytes of each "&" of a return address
	if err := enc.Encode(v); err != nil {
		return "", fmt.Errorf("encoding: %w", err)
	}
	sealed, err := p.sealer.Seal(ctx, label, plain.Bytes())
	if err != nil {
		return "", fmt.Errorf("sealing: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

// openJSON is the inverse of sealJSON.
func (p *Portal) openJSON(ctx context.Context, label, text string, v any) error {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return fmt.Errorf("decoding: %w", err)
	}
	plain, err := p.sealer.Open(ctx, label, sealed)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(plain))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("decoding: %w", err)
	}
	return nil
}

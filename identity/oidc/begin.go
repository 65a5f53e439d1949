package oidc

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"golang.org/x/oauth2"
)

const (
	maxState = 1024 // bytes; portal's are far shorter
	maxKeep  = 4096 // bytes
)

// kept is what Finish needs from Begin. Portal seals it into the attempt's
// cookie: nothing of it is ever in a URL but the state and the nonce.
type kept struct {
	Source   string `json:"src"`
	Issuer   string `json:"iss"`
	State    string `json:"state"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"`
	Callback string `json:"callback"`
	Began    int64  `json:"began"`           // Unix seconds
	Again    bool   `json:"again,omitempty"` // Reauthenticate was asked
}

// Begin looks the provider up and gives the address of its sign-in page. The
// error is ErrUnavailable when there is no usable provider.
func (s *Source) Begin(ctx context.Context, start identity.Start) (identity.Step, error) {
	if start.State == "" || len(start.State) > maxState {
		return identity.Step{}, fail(identity.ErrRefused, "start.state", errors.New("beginning sign-in: no usable state"))
	}
	if u, err := url.Parse(start.CallbackURL); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return identity.Step{}, fail(identity.ErrRefused, "start.callback", errors.New("beginning sign-in: callback is not an absolute address"))
	}
	p, err := s.ready(ctx)
	if err != nil {
		return identity.Step{}, err
	}
	k := kept{
		Source: s.name, Issuer: s.issuer, State: start.State, Nonce: random(), Verifier: oauth2.GenerateVerifier(),
		Callback: start.CallbackURL, Began: s.now().Unix(), Again: start.Reauthenticate,
	}
	keep, err := json.Marshal(k)
	if err != nil {
		return identity.Step{}, fail(identity.ErrRefused, "start.keep", errors.New("beginning sign-in: state cannot be kept"))
	}
	options := []oauth2.AuthCodeOption{
		oauth2.S256ChallengeOption(k.Verifier),
		oauth2.SetAuthURLParam("nonce", k.Nonce),
	}
	if start.Reauthenticate {
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"))
	}
	address := s.oauth(p, start.CallbackURL).AuthCodeURL(start.State, options...)
	return identity.Step{RedirectURL: address, Keep: keep}, nil
}

// oauth is x/oauth2's view of the provider. The way of client authentication is
// fixed: left open, that package would try two, with the same code.
func (s *Source) oauth(p *provider, callback string) *oauth2.Config {
	return &oauth2.Config{
		ClientID: s.clientID, ClientSecret: s.secret.reveal(), RedirectURL: callback, Scopes: s.scopes,
		Endpoint: oauth2.Endpoint{AuthURL: p.authURL, TokenURL: p.tokenURL, AuthStyle: oauth2.AuthStyleInHeader},
	}
}

// random gives 256 bits as text.
func random() string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// openKept reads what Begin kept and ties it to this callback. Empty values are
// refused: absent on both sides must not count as equal.
func (s *Source) openKept(cb identity.Callback) (kept, error) {
	var k kept
	if len(cb.Keep) > maxKeep || json.Unmarshal(cb.Keep, &k) != nil {
		return kept{}, refused("attempt.keep")
	}
	if k.State == "" || len(k.Nonce) < 43 || len(k.Verifier) < 43 || k.Began <= 0 {
		return kept{}, refused("attempt.keep")
	}
	// An attempt that began at another provider must not send its code here
	// (RFC 9700, section 4.4).
	if k.Source != s.name || k.Issuer != s.issuer {
		return kept{}, refused("attempt.source")
	}
	if k.Callback != cb.CallbackURL {
		return kept{}, refused("attempt.callback")
	}
	return k, nil
}

func (k kept) began() time.Time { return time.Unix(k.Began, 0) }

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

package oidc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/anteroom-proxy/anteroom/identity"
)

const (
	maxState = 1024 // bytes; portal's are far shorter
	maxKeep  = 4096 // bytes
	maxHint  = 255  // bytes of a login_hint
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
	Began    int64  `json:"began"`             // Unix seconds
	Again    bool   `json:"again,omitempty"`   // prompt=login was asked
	MaxAge   int64  `json:"max_age,omitempty"` // seconds; 0: not asked
	Posted   bool   `json:"posted,omitempty"`  // response_mode=form_post was asked
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
		Source: s.name, Issuer: s.issuer, State: start.State, Nonce: random(), Verifier: random(),
		Callback: start.CallbackURL, Began: s.now().Unix(), Posted: s.config.Request.FormPost,
	}
	form := s.request(&k, start)
	if s.bound() {
		// The code is of use to our key only (RFC 9449, section 10).
		if form["dpop_jkt"], err = list(s.dpopThumbprint(ctx)); err != nil {
			return identity.Step{}, err
		}
	}
	keep, err := json.Marshal(k)
	if err != nil || len(keep) > maxKeep {
		return identity.Step{}, fail(identity.ErrRefused, "start.keep", errors.New("beginning sign-in: state cannot be kept"))
	}
	if s.pushed(p) {
		if form, err = s.push(ctx, p, form); err != nil {
			return identity.Step{}, err
		}
	}
	return identity.Step{RedirectURL: withQuery(p.authURL, form), Keep: keep, Posted: k.Posted}, nil
}

// request is the authorization request (OpenID Connect Core 1.0, section 3.1.2.1),
// with what a request for more proof needs (RFC 9470, section 4). What it asks for
// and Finish has to check goes into k.
func (s *Source) request(k *kept, start identity.Start) url.Values {
	challenge := sha256.Sum256([]byte(k.Verifier))
	form := url.Values{}
	for name, value := range s.config.Request.Parameters {
		form.Set(name, value)
	}
	for name, value := range map[string]string{
		"response_type": "code", "client_id": s.clientID, "redirect_uri": k.Callback, "scope": strings.Join(s.scopes, " "),
		"state": k.State, "nonce": k.Nonce,
		"code_challenge": base64.RawURLEncoding.EncodeToString(challenge[:]), "code_challenge_method": "S256",
	} {
		form.Set(name, value)
	}
	if k.Posted {
		form.Set("response_mode", "form_post")
	}
	// What the request needs goes before what is usual: a provider picks from
	// acr_values what suits it.
	acr := s.config.Request.ACR
	if len(start.Need.ACR) > 0 {
		acr = start.Need.ACR
	}
	if len(acr) > 0 {
		form.Set("acr_values", strings.Join(acr, " "))
	}
	if k.MaxAge = shorter(s.config.Request.MaxAge, start.Need.MaxAge); k.MaxAge > 0 {
		form.Set("max_age", strconv.FormatInt(k.MaxAge, 10))
	}
	prompts := s.prompts(start)
	if k.Again = slices.Contains(prompts, "login"); len(prompts) > 0 {
		form.Set("prompt", strings.Join(prompts, " "))
	}
	if hint := start.LoginHint; hint != "" && len(hint) <= maxHint && utf8.ValidString(hint) && !strings.ContainsFunc(hint, notText) {
		form.Set("login_hint", hint)
	}
	return form
}

// prompts are the words of the prompt parameter. There is no parameter that asks for
// an authentication method. Whoever needs one and names no context that stands for
// it gets a new proof: with the old one nothing could change, and what the
// provider then says of it decides.
func (s *Source) prompts(start identity.Start) []string {
	words := strings.Fields(s.config.Request.Prompt)
	again := start.Reauthenticate || len(start.Need.AMR) > 0 && len(start.Need.ACR) == 0
	if again && !slices.Contains(words, "login") {
		words = append(words, "login")
	}
	return words
}

// shorter is the shorter of two times that are there, in seconds and at least one.
func shorter(a, b time.Duration) int64 {
	if a <= 0 || 0 < b && b < a {
		a = b
	}
	if a <= 0 {
		return 0
	}
	return max(1, int64(a/time.Second))
}

func list(value string, err error) ([]string, error) { return []string{value}, err }

// withQuery adds parameters to an address that may have a query of its own, which
// holds none of them ([checkOwnQuery]).
func withQuery(address string, form url.Values) string {
	mark := "?"
	if strings.Contains(address, "?") {
		mark = "&"
	}
	return address + mark + form.Encode()
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

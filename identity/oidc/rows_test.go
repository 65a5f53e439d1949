package oidc

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/upstreams/idp"
	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// rowRig is a client that asks for what the row needs.
func rowRig(t *testing.T, row idptest.Row) *rig {
	t.Helper()
	server := idptest.Start(t, func(c *idp.Config) {
		if row.Client != nil {
			row.Client(&c.Clients[0])
		}
	})
	r := &rig{server: server, browser: idptest.NewBrowser(), log: &logBuffer{}}
	r.source = r.another(t, func(c *Config) {
		if row.Asks.MaxAge {
			c.Request.MaxAge = 5 * time.Minute
		}
		if row.Asks.SignedUserInfo {
			c.UserInfo = userinfoSigned
		}
		c.Request.FormPost = row.Asks.FormPost
	})
	return r
}

// attemptRow is attempt for queries and form posts.
func (r *rig) attemptRow(t *testing.T, row idptest.Row, faults ...idptest.Fault) (identity.Identity, error) {
	t.Helper()
	r.server.Use(faults...)
	step, err := r.source.Begin(t.Context(), started)
	if err != nil {
		return identity.Identity{}, err
	}
	if step.Posted != row.Asks.FormPost {
		t.Fatalf("answer as a form post: %v", step.Posted)
	}
	cb := identity.Callback{CallbackURL: idptest.Callback, Keep: step.Keep, Posted: step.Posted}
	if step.Posted {
		_, cb.Query = r.browser.SignInPosted(t, step.RedirectURL, "doctor", "doctor")
	} else {
		cb.Query = r.browser.SignIn(t, step.RedirectURL, "doctor", "doctor").Query()
	}
	return r.source.Finish(t.Context(), cb)
}

// The tables of the conformance suite and of the negatives that it lacks.
func TestRows(t *testing.T) {
	kinds := map[idptest.Kind]error{idptest.Refused: identity.ErrRefused, idptest.Unavailable: identity.ErrUnavailable, idptest.Declined: identity.ErrDeclined}
	for _, row := range idptest.Rows() {
		t.Run(row.ID+" "+row.Module, func(t *testing.T) {
			r := rowRig(t, row)
			if row.Before {
				if _, err := r.attemptRow(t, row); err != nil {
					t.Fatalf("the sign-in before: %v", err)
				}
				r.browser = idptest.NewBrowser()
			}
			if row.Rotated {
				r.server.Rotate()
			}
			r.server.Forget()
			who, err := r.attemptRow(t, row, row.Faults...)
			if row.Reason != "" {
				wantFailure(t, who, err, kinds[row.Kind], row.Reason)
			} else if err != nil || who.Username != "doctor" {
				t.Fatalf("got %q, %v; want the doctor", who.Username, err)
			}
			if got := r.server.Count(idptest.AtAuthorize) > 0; got != row.Redirects {
				t.Errorf("browser sent to the provider: %v, want %v", got, row.Redirects)
			}
			if got := r.server.Count(idptest.AtToken); got != row.Tokens {
				t.Errorf("%d token requests, want %d", got, row.Tokens)
			}
			if got := r.server.Count(idptest.AtUserInfo); got > 0 != row.UserInfo {
				t.Errorf("%d userinfo requests, expected some: %v", got, row.UserInfo)
			}
			if got := r.server.Count(idptest.AtKeys); row.Before && got > 1 {
				t.Errorf("%d requests for the keys, want at most 1", got)
			}
			// C22, C23: what the provider names besides is never fetched.
			for _, request := range r.server.Requests(idptest.AtElsewhere) {
				t.Errorf("request for %s", request.URL)
			}
		})
	}
}

// Asking again with a refresh token, after something changed at the provider.
func TestRefreshRows(t *testing.T) {
	for _, row := range idptest.RefreshRows() {
		t.Run(row.ID+" "+row.Module, func(t *testing.T) {
			r := newRig(t, nil)
			again, ok := any(r.source).(identity.Refresher)
			if !ok {
				t.Fatal("the source cannot be asked again")
			}
			first := r.accepts(t)
			if !first.Renews || len(first.Keep) == 0 {
				t.Fatal("nothing is kept to ask again with")
			}
			subject, sid := r.server.Last()
			if row.Disabled {
				r.server.Provider.Disable("doctor")
			}
			if row.Ended {
				if err := r.server.Provider.EndSession(sid); err != nil {
					t.Fatal(err)
				}
			}
			r.server.Pass(time.Minute)
			r.server.Use(row.Faults...)
			r.server.Forget()
			who, err := again.Refresh(t.Context(), first.Keep)
			switch {
			case row.Silent && !errors.Is(err, identity.ErrUnavailable), row.Gone && (err == nil || errors.Is(err, identity.ErrUnavailable)):
				t.Fatalf("got %v", err)
			case !row.Silent && !row.Gone && (err != nil || who.Username != "doctor" || who.Subject != subject || !who.AuthTime.Equal(first.AuthTime)):
				t.Fatalf("got %+v, %v; want the doctor of before", who, err)
			}
			if n := r.server.Count(idptest.AtToken); n != 1 {
				t.Errorf("%d token requests, want 1", n)
			}
			if n := r.server.Count(idptest.AtUserInfo); row.Gone && n != 0 && row.Module != "userinfo of somebody else" {
				t.Errorf("%d userinfo requests after the refusal", n)
			}
		})
	}
}

// The suite's module is about response types that carry tokens in the address.
// Here a nonce is sent always, another one each time, and comes back.
func TestC15NonceAlways(t *testing.T) {
	r := newRig(t, nil)
	seen := map[string]bool{}
	for range 5 {
		r.accepts(t)
		for _, request := range r.server.Requests(idptest.AtAuthorize) {
			nonce := request.URL.Query().Get("nonce")
			if len(nonce) < 43 || seen[nonce] {
				t.Errorf("nonce %q", nonce)
			}
			seen[nonce] = true
		}
	}
}

// The access token goes in the header, never in the address or a body.
func TestC19UserInfoByHeader(t *testing.T) {
	r := newRig(t, nil)
	var access string
	r.accepts(t, lean, idptest.TokenAnswer(func(a map[string]any) { access = a["access_token"].(string) }))
	requests := r.server.Requests(idptest.AtUserInfo)
	if len(requests) != 1 || access == "" {
		t.Fatalf("%d requests", len(requests))
	}
	q := requests[0]
	if q.Method != http.MethodGet || q.Header.Get("Authorization") != "Bearer "+access || q.URL.RawQuery != "" || len(q.Form) != 0 {
		t.Errorf("%s %s with %q and the form %v", q.Method, q.URL, q.Header.Get("Authorization"), q.Form)
	}
	// Only one place outside the provider's own header has it: none.
	for _, e := range []idptest.Endpoint{idptest.AtMetadata, idptest.AtKeys, idptest.AtAuthorize, idptest.AtToken, idptest.AtElsewhere} {
		for _, other := range r.server.Requests(e) {
			if strings.Contains(other.URL.String()+other.Form.Encode()+other.Header.Get("Authorization"), access) {
				t.Errorf("the access token went to %s, too", other.URL)
			}
		}
	}
}

// WebFinger, registration and request objects are not offered: what the metadata
// says of them is neither read nor asked.
func TestC34NotOffered(t *testing.T) {
	r := newRig(t, nil)
	r.accepts(t, idptest.Metadata(func(m map[string]any) {
		m["registration_endpoint"] = r.server.URL + "/register"
		m["request_parameter_supported"], m["request_uri_parameter_supported"], m["require_request_uri_registration"] = true, true, true
		m["request_object_signing_alg_values_supported"] = []string{"none", "RS256"}
		m["webfinger_endpoint"], m["service_documentation"], m["op_policy_uri"] = r.server.URL+"/webfinger", r.server.URL+"/doc", r.server.URL+"/policy"
	}))
	for _, request := range r.server.Requests(idptest.AtElsewhere) {
		t.Errorf("request for %s", request.URL)
	}
	for _, request := range r.server.Requests(idptest.AtAuthorize) {
		for _, name := range []string{"request", "request_uri", "registration", "claims"} {
			if request.URL.Query().Has(name) {
				t.Errorf("%s was sent", name)
			}
		}
	}
}

// An algorithm that the configuration no longer lists is refused, although the
// provider lists it and its key is good.
func TestJ21RetiredAlgorithm(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Algs = []string{"ES256"} })
	r.accepts(t, idptest.SignWith("ES256"))
	r.refuses(t, "idtoken.alg", idptest.SignWith("RS256"))
}

// N22 and the size limits: at whatever endpoint and whatever the answer, a sign-in
// ends with an error, in time, and no code or token is sent anywhere else.
func TestAnswersOfAnyShape(t *testing.T) {
	for _, e := range []idptest.Endpoint{idptest.AtMetadata, idptest.AtKeys, idptest.AtToken, idptest.AtUserInfo} {
		shapes := idptest.Shapes(e)
		names := make([]string, 0, len(shapes))
		for name := range shapes {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			t.Run(string(e)+" "+name, func(t *testing.T) {
				t.Parallel() // most of the time it waits for answers that do not come
				r := newRig(t, hasty)
				began := time.Now()
				who, err := r.attempt(t, lean, shapes[name])
				if err == nil || who.Subject != "" {
					t.Fatalf("signed in as %q", who.Username)
				}
				if !errors.Is(err, identity.ErrRefused) && !errors.Is(err, identity.ErrUnavailable) || identity.Reason(err) == "" {
					t.Errorf("error %v", err)
				}
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("took %v", took)
				}
				if n := r.server.Count(idptest.AtToken); n > 1 {
					t.Errorf("the code was sent %d times", n)
				}
				for _, request := range r.server.Requests(idptest.AtElsewhere) {
					if request.Form.Has("code") || request.Header.Get("Authorization") != "" {
						t.Errorf("a secret was sent to %s", request.URL)
					}
				}
			})
		}
	}
}

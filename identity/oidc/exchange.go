package oidc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/identity/issuer"
	"github.com/anteroom-proxy/anteroom/jws"
	"golang.org/x/oauth2"
)

// tokens is a token response (OpenID Connect Core 1.0, section 3.1.3.3). The
// refresh token, if one came, is dropped: nobody here uses it.
type tokens struct{ access, id string }

// exchange sends the code, once. Whatever goes wrong after that, the code counts
// as used (RFC 6749, section 4.1.2).
func (s *Source) exchange(ctx context.Context, p *provider, k kept, code string) (tokens, error) {
	answer := &strictAnswer{client: s.client}
	client := &http.Client{Transport: answer, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, client)
	_, err := s.oauth(p, k.Callback).Exchange(ctx, code, oauth2.VerifierOption(k.Verifier))
	if err != nil {
		return tokens{}, exchangeFailure(err)
	}
	// x/oauth2 matches member names in any case; only exact ones count here.
	access, present, err := answer.object.String("access_token")
	if err != nil || !present || !visible(access) || strings.Contains(access, " ") {
		return tokens{}, refused("token.access_token")
	}
	kind, _, err := answer.object.String("token_type")
	if err != nil || !strings.EqualFold(kind, "Bearer") {
		return tokens{}, refused("token.type")
	}
	id, present, err := answer.object.String("id_token")
	if err != nil || !present {
		return tokens{}, refused("token.id_token")
	}
	return tokens{access: access, id: id}, nil
}

// strictAnswer makes sure that x/oauth2, which also reads forms and lax JSON,
// sees a strict JSON object or an error. It serves one exchange.
type strictAnswer struct {
	client *issuer.Client
	object jws.Claims
}

func (a *strictAnswer) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := a.client.Do(r)
	if err != nil || response.StatusCode != http.StatusOK {
		return response, err
	}
	defer response.Body.Close()
	if !issuer.IsJSON(response.Header) {
		return nil, issuer.ErrType
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if a.object, err = issuer.ParseObject(body); err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// exchangeFailure sorts the failures of the token endpoint. Bodies of answers
// stay out of the error: x/oauth2 would put them in.
func exchangeFailure(err error) error {
	if answer, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		status := issuer.StatusError(answer.Response.StatusCode)
		switch {
		case answer.ErrorCode == "invalid_grant":
			return fail(identity.ErrRefused, "token.invalid_grant", status)
		case answer.ErrorCode == "invalid_client", answer.ErrorCode == "unauthorized_client", status == http.StatusUnauthorized:
			return fail(identity.ErrUnavailable, "token.client", errors.New("the provider does not accept our client_id and client_secret"))
		case status >= 500, status == http.StatusTooManyRequests, 300 <= status && status < 400:
			return fail(identity.ErrUnavailable, "token.status", status)
		}
		return fail(identity.ErrRefused, "token.refused", status)
	}
	for _, known := range []error{issuer.ErrType, issuer.ErrNotJSON, issuer.ErrTooBig} {
		if errors.Is(err, known) {
			return fail(identity.ErrRefused, "token.malformed", known)
		}
	}
	if isNetwork(err) {
		return fail(identity.ErrUnavailable, "token.unreachable", issuer.Cause(err))
	}
	return fail(identity.ErrRefused, "token.malformed", issuer.ErrNotJSON)
}

func isNetwork(err error) bool {
	// http.Client wraps whatever the transport returned.
	var failed interface{ Timeout() bool }
	return errors.As(err, &failed)
}

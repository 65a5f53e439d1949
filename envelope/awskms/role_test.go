package awskms

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anteroom-proxy/anteroom/envelope"
	"github.com/anteroom-proxy/anteroom/envelope/awskms/kmstest"
)

const role = "arn:aws:iam::123456789012:role/anteroom"

// tokenServer answers AssumeRole and AssumeRoleWithWebIdentity as AWS STS does; who may not is told so.
func tokenServer(t *testing.T, denied *bool) *httptest.Server {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		action := r.FormValue("Action")
		if r.FormValue("RoleArn") != role || !strings.HasPrefix(action, "AssumeRole") {
			t.Errorf("STS was asked for %s of %s", action, r.FormValue("RoleArn"))
		}
		w.Header().Set("Content-Type", "text/xml")
		if *denied {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>User: %s is not authorized to perform: sts:AssumeRole on resource: %s</Message></Error><RequestId>r1</RequestId></ErrorResponse>`, kmstest.Principal, role)
			return
		}
		fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><Credentials><AccessKeyId>ASIAROLE000000000000</AccessKeyId><SecretAccessKey>secret-of-the-role</SecretAccessKey><SessionToken>token-of-the-role</SessionToken><Expiration>%[2]s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`,
			action, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(server.Close)
	return server
}

// signedBy is the access key of the next request.
func signedBy(t *testing.T, m *Master, fake *kmstest.Fake) string {
	t.Helper()
	fake.Requests()
	if _, _, err := m.Generate(t.Context(), map[string]string{"a": "b"}); err != nil {
		t.Fatal(err)
	}
	key, _, _ := strings.Cut(fake.Requests()[0].Scope, "/")
	return key
}

// TestCredentials: keys of the environment, a profile, a role that is assumed, and a web identity, which is how pods have a role.
func TestCredentials(t *testing.T) {
	_, fake := fakeBackend(t)
	denied := false
	t.Setenv("AWS_ENDPOINT_URL_STS", tokenServer(t, &denied).URL)
	cfg := Config{Key: fake.Key(), Endpoint: fake.URL, Timeout: 2 * time.Second}
	if got := signedBy(t, open(t, cfg), fake); got != accessKey {
		t.Errorf("the environment's keys: signed by %s", got)
	}
	withRole := cfg
	withRole.Role = role
	if got := signedBy(t, open(t, withRole), fake); got != "ASIAROLE000000000000" {
		t.Errorf("a role: signed by %s", got)
	}
	denied = true
	_, _, err := open(t, withRole).Generate(t.Context(), map[string]string{"a": "b"})
	if !errors.Is(err, envelope.ErrRefused) || !strings.Contains(err.Error(), "sts:AssumeRole") || !strings.Contains(err.Error(), kmstest.Principal+" may not assume the role "+role) {
		t.Errorf("a role that may not be assumed: %v", err)
	}
	denied = false
	profile := cfg
	profile.Profile = "hospital"
	text := "[hospital]\naws_access_key_id = AKIAPROFILE000000000\naws_secret_access_key = secret-of-the-profile\n"
	if err := os.WriteFile(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := signedBy(t, open(t, profile), fake); got != "AKIAPROFILE000000000" {
		t.Errorf("a profile: signed by %s", got)
	}
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("a.b.c"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_ROLE_ARN": role, "AWS_WEB_IDENTITY_TOKEN_FILE": tokenFile} {
		t.Setenv(name, value)
	}
	if got := signedBy(t, open(t, cfg), fake); got != "ASIAROLE000000000000" {
		t.Errorf("a web identity: signed by %s", got)
	}
}

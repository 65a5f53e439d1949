package bearer

import (
	"encoding/json"
	"strings"
)

// metadataPath is where RFC 9728, section 3, puts a resource's metadata.
const metadataPath = "/.well-known/oauth-protected-resource"

// Metadata is the site's document of RFC 9728, section 2, for the host that was
// asked; nil when that is no host. The resource is the address it was asked at: a
// client must not use a document that names another one (section 3.3).
func (s *Site) Metadata(host string) []byte {
	host, ok := normaliseHost(host)
	if !ok {
		return nil
	}
	document := struct {
		Resource string   `json:"resource"`
		Servers  []string `json:"authorization_servers"`
		Scopes   []string `json:"scopes_supported,omitempty"`
		Methods  []string `json:"bearer_methods_supported"`
		Proofs   []string `json:"dpop_signing_alg_values_supported"`
	}{Resource: "https://" + host, Servers: []string{}, Scopes: s.Scopes, Methods: []string{"header"}, Proofs: proofAlgs}
	for _, i := range s.Issuers {
		document.Servers = append(document.Servers, i.issuer)
	}
	text, err := json.Marshal(document)
	if err != nil {
		return nil
	}
	return text
}

// Challenge is the values of WWW-Authenticate for a request without a token: no
// error code (RFC 6750, section 3.1), the proof's algorithms (RFC 9449, section
// 7.1), and where to read on (RFC 9728, section 5.1).
func (s *Site) Challenge(host string) []string {
	where := ""
	if host, ok := normaliseHost(host); ok {
		where = `resource_metadata="https://` + host + metadataPath + `"`
	}
	dpop, bearer := `DPoP algs="`+strings.Join(proofAlgs, " ")+`"`, "Bearer"
	if where != "" {
		dpop, bearer = dpop+", "+where, bearer+" "+where
	}
	return []string{dpop, bearer}
}

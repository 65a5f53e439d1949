package oidc

import (
	"io"
	"net/http"
	"strconv"

	"github.com/anteroom-proxy/anteroom/upstreams/idp/idptest"
)

// answerJSON answers with a status and a text that is called JSON.
func answerJSON(e idptest.Endpoint, status, body string) idptest.Fault {
	code, err := strconv.Atoi(status)
	if err != nil {
		panic(err)
	}
	return idptest.Replace(e, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		io.WriteString(w, body)
	})
}

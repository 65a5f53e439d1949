package portal

import "strings"

// SealedAt says under which label the value at a store key of this package is sealed,
// for whoever seals all of them anew under another key. ok is false for keys of others
// and for what is not sealed. What is sealed in cookies and addresses is not in the
// store: nobody seals it anew, and it ends with its key.
func SealedAt(key string) (label string, ok bool) {
	if strings.HasPrefix(key, labelMoveKeepID+"/") {
		return labelMoveKeep, true
	}
	return "", false
}

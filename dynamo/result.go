package dynamo

import (
	"errors"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
)

// result is what is known after one call, or one statement of a batch.
type result string

// The results, as they are counted.
const (
	done      result = "ok"
	unmet     result = "condition" // the condition of a write does not hold; nothing was changed
	throttled result = "throttled" // refused for lack of capacity, before anything was done: repeat with backoff
	refused   result = "refused"   // a definite no: nothing was done, and repeating it as it is won't help
	unsent    result = "unsent"    // no connection carried it: nothing was done
	unknown   result = "unknown"   // no answer, or one that does not tell: it may be done, or may still be
)

var results = []result{done, unmet, throttled, refused, unsent, unknown}

// byCode holds the codes that are certain to mean "nothing was done", in an answer of status 400. Any other code is
// unknown: a new one must not turn "may be done" into "was not done".
var byCode = map[string]result{
	"ConditionalCheckFailedException":        unmet,
	"ProvisionedThroughputExceededException": throttled,
	"RequestLimitExceeded":                   throttled,
	"ThrottlingException":                    throttled,
	"Throttling":                             throttled,
	"AccessDeniedException":                  refused,
	"ExpiredTokenException":                  refused,
	"IncompleteSignatureException":           refused,
	"InvalidSignatureException":              refused,
	"MissingAuthenticationTokenException":    refused,
	"ResourceNotFoundException":              refused,
	"SerializationException":                 refused,
	"UnrecognizedClientException":            refused,
	"ValidationException":                    refused,
}

// resultOf decides by codes, never by text.
func resultOf(err error) result {
	var lost *unsentError
	var answer *awshttp.ResponseError
	var api smithy.APIError
	switch {
	case err == nil:
		return done
	case errors.As(err, &lost):
		return unsent
	case errors.As(err, &answer) && answer.HTTPStatusCode() == http.StatusBadRequest && errors.As(err, &api):
		if r, ok := byCode[api.ErrorCode()]; ok {
			return r
		}
	}
	return unknown
}

// resultOfStatement is resultOf for one statement of a batch, whose codes are spelled differently.
func resultOfStatement(err *types.BatchStatementError) result {
	if err == nil {
		return done
	}
	switch err.Code {
	case types.BatchStatementErrorCodeEnumConditionalCheckFailed:
		return unmet
	case types.BatchStatementErrorCodeEnumProvisionedThroughputExceeded, types.BatchStatementErrorCodeEnumRequestLimitExceeded,
		types.BatchStatementErrorCodeEnumThrottlingError:
		return throttled
	case types.BatchStatementErrorCodeEnumAccessDenied, types.BatchStatementErrorCodeEnumResourceNotFound,
		types.BatchStatementErrorCodeEnumValidationError:
		return refused
	default: // a new code must not turn "may be done" into "was not done"
		return unknown
	}
}

"""A folder per case: the review, the policy, and the expected answer.

`pod.yaml`       the Pod under review; `workload.yaml` another object, `review.yaml` a whole review
`policy.yaml`    the cluster owner's policy, if it is not the default
`want.yaml`      the object after the patch; without it the answer must have no patch
`case.yaml`      the rule, and all that is not the object: `cases.Case` names its members

A folder's name starts with its row of the conformance list, or with D for a rule of the design without a row.
"""

-- MLflow's users, beside its runs; run once, when the database is made.
CREATE DATABASE mlflow_auth OWNER mlflow;

/**
 * `hence/kafka`: the log in a topic of Kafka, a source that makes requests of the records of a topic, and a
 * sink that writes messages or a view to one.
 */

export { type KafkaLogOptions, kafkaLog } from './carrier.ts'
export type { KafkaConnection } from './connection.ts'
export { type KafkaSink, type KafkaSinkOptions, kafkaSink } from './sink.ts'
export { type KafkaMessage, type KafkaSourceOptions, kafkaSource } from './source.ts'
